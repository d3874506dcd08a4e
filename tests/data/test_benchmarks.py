"""The paper's tasks on miniature copies of their layouts, and tasks that a user adds."""

import dataclasses
import itertools
import zlib

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings, strategies as st
from PIL import Image

from tests.data import image_trees
from tests.data.image_trees import encoded, pixels, write
from transfer_jax.data import voc
from transfer_jax.data.benchmarks import (
    BENCHMARKS,
    GROUPS,
    Benchmark,
    RetrievalTask,
    open_task,
    open_tasks,
)
from transfer_jax.data.dataset import Dataset
from transfer_jax.data.layouts import layout
from transfer_jax.data.sources import DatasetSpec, open_dataset

HEIGHT, WIDTH = 30, 40  # of every image that is written here


def images(root, *names):
    """Different pictures under these names."""
    for name in names:
        write(root / name, encoded(pixels(zlib.crc32(name.encode()), HEIGHT, WIDTH)))


def text(path, *lines):
    write(path, "".join(f"{line}\n" for line in lines).encode())


# Each writes a layout and returns what its task should be: of 'train' and 'val' the files, what
# they show, and the part that is cut out as (left, top, right, bottom). What they show is a class,
# or marks of several; of retrieval instead the queries, and which references are right and junk.


def mit67(root):
    images(root / "Images", "bar/b 1.jpg", "bar/b2.jpg", *(f"attic/{i}.jpg" for i in (1, 2, 3)))
    text(root / "TrainImages.txt", "bar/b 1.jpg", "attic/3.jpg", "attic/2.jpg")
    text(root / "TestImages.txt", "bar/b2.jpg", "attic/1.jpg")
    train = ("Images/attic/2.jpg", "attic"), ("Images/attic/3.jpg", "attic")
    val = ("Images/attic/1.jpg", "attic"), ("Images/bar/b2.jpg", "bar")
    return {"train": [*train, ("Images/bar/b 1.jpg", "bar")], "val": val}


def sun397(root):
    images(root, "b/bar/1.jpg", "b/bar/2.jpg", "a/abbey/1.jpg", "a/abbey/2.jpg", "a/abbey/3.jpg")
    text(root / "Training_01.txt", "/b/bar/2.jpg", "/a/abbey/3.jpg")
    text(root / "Testing_01.txt", "/b/bar/1.jpg", "/a/abbey/1.jpg")
    return {
        "train": [("a/abbey/3.jpg", "a/abbey"), ("b/bar/2.jpg", "b/bar")],
        "val": [("a/abbey/1.jpg", "a/abbey"), ("b/bar/1.jpg", "b/bar")],
    }


def sun_attributes(root):
    files = [f"{'ab'[i // 4]}/x/sun_{i}.jpg" for i in range(8)]
    images(root / "images", *files)
    votes = np.array([[1, 0], [2 / 3, 1 / 3], [0, 1], [1 / 3, 2 / 3]] * 2)
    tables = {
        "images": {"images": np.array([[file] for file in files], object)},
        "attributes": {"attributes": np.array([["sailing"], ["open area"]], object)},
        "attributeLabels_continuous": {"labels_cv": votes},
    }
    for name, table in tables.items():
        write(root / f"SUNAttributeDB/{name}.mat", b"")
        scipy.io.savemat(root / f"SUNAttributeDB/{name}.mat", table)
    marks = {1: 1, 2 / 3: 1, 1 / 3: -1, 0: 0}
    shown = [{"sailing": marks[a], "open area": marks[b]} for a, b in votes.tolist()]
    return {"all": [(f"images/{file}", *rest) for file, *rest in zip(files, shown, strict=True)]}


def apascal(root):
    text(root / "attribute_data/attribute_names.txt", "2D Boxy", "Occluded", "Has Head")
    for stem, line in {
        "apascal_train": "2008_000008.jpg horse 11 6 40 30 0 1 1",
        "apascal_test": "2008_000007.jpg boat 1 1 20 15 1 0 0",
        "ayahoo_test": "bag_1.jpg bag 1 1 40 30 1 0 0",
    }.items():
        text(root / f"attribute_data/{stem}.txt", line)
    folder = "VOCdevkit/VOC2008/JPEGImages"
    images(root / folder, "2008_000008.jpg", "2008_000007.jpg")
    images(root / "ayahoo_test_images", "bag_1.jpg")
    head, boxy = ({"2D Boxy": a, "Occluded": b, "Has Head": b} for a, b in ((0, 1), (1, 0)))
    return {
        "train": [(f"{folder}/2008_000008.jpg", head, (10, 5, 40, 30))],
        "val": [(f"{folder}/2008_000007.jpg", boxy, (0, 0, 20, 15))],
    }


def h3d(root):
    images(root, "train/00001.jpg", "test/00001.jpg", "test/00002.jpg")
    text(root / "train/labels.txt", "00001.jpg 4.0 5.0 20.0 25.0 1 -1 0 1 1 1 1 1 1")
    lines = "00002.jpg 0 0 10 10 -1 1 1 -1 -1 -1 -1 -1 -1", "00001.jpg 0 0 40 30" + " 1" * 9
    text(root / "test/labels.txt", *lines)
    names = "is_male has_long_hair has_glasses has_hat has_t-shirt has_long_sleeves has_shorts "
    names = (names + "has_jeans has_long_pants").split()
    marks = [[1, 0, -1, 1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 0, 0, 0, 0, 0], [1] * 9]
    shown = [dict(zip(names, each, strict=True)) for each in marks]
    return {
        "train": [("train/00001.jpg", shown[0], (4, 5, 24, 30))],
        "val": [
            ("test/00002.jpg", shown[1], (0, 0, 10, 10)),
            ("test/00001.jpg", shown[2], (0, 0, 40, 30)),
        ],
    }


def pets(root):
    images(root / "images", "Abyssinian_1.jpg", "Abyssinian_2.jpg", "great_pyrenees_10.jpg")
    text(root / "annotations/trainval.txt", "great_pyrenees_10 12 2 3", "Abyssinian_2 1 1 1")
    text(root / "annotations/test.txt", "Abyssinian_1 1 1 1")
    return {
        "train": [
            ("images/Abyssinian_2.jpg", "Abyssinian"),
            ("images/great_pyrenees_10.jpg", "great_pyrenees"),
        ],
        "val": [("images/Abyssinian_1.jpg", "Abyssinian")],
    }


def cub200(root):
    files = ["001.Albatross/a.jpg", "001.Albatross/b.jpg", "002.Auk/c.jpg", "002.Auk/d.jpg"]
    images(root / "images", *files)
    text(root / "images.txt", *(f"{i} {file}" for i, file in enumerate(files, 1)))
    text(root / "train_test_split.txt", "1 0", "2 1", "3 1", "4 0")
    text(root / "bounding_boxes.txt", *(f"{i} {i}.0 2.0 20.0 {10 + i}.0" for i in range(1, 5)))
    rows = [
        (f"images/{file}", file[: file.index("/")], (i, 2, i + 20, 12 + i))
        for i, file in enumerate(files, 1)
    ]
    return {"train": rows[1:3], "val": [rows[0], rows[3]]}


def flowers102(root):
    images(root / "jpg", *(f"image_{i:05d}.jpg" for i in range(1, 6)))
    scipy.io.savemat(root / "imagelabels.mat", {"labels": np.array([[77, 2, 2, 77, 10]], np.uint8)})
    sets = {"trnid": [[5, 2]], "valid": [[1]], "tstid": [[3, 4]]}
    scipy.io.savemat(root / "setid.mat", {k: np.array(v, np.uint16) for k, v in sets.items()})
    train = [(f"jpg/image_0000{i}.jpg", name) for i, name in ((2, "002"), (5, "010"), (1, "077"))]
    return {"train": train, "val": [("jpg/image_00003.jpg", "002"), ("jpg/image_00004.jpg", "077")]}


def stanford40(root):
    images(root / "JPEGImages", "running_001.jpg", "running_002.jpg", "cutting_trees_001.jpg")
    lists = {"running_train": ["running_002.jpg"], "running_test": ["running_001.jpg"]}
    lists |= {"cutting_trees_train": ["cutting_trees_001.jpg"], "cutting_trees_test": []}
    for name, files in (lists | {"train": ["x.jpg"], "actions": ["running 2"]}).items():
        text(root / f"ImageSplits/{name}.txt", *files)
    running, cutting = ({"running": x, "cutting_trees": 1 - x} for x in (1, 0))
    return {
        "train": [
            ("JPEGImages/cutting_trees_001.jpg", cutting),
            ("JPEGImages/running_002.jpg", running),
        ],
        "val": [("JPEGImages/running_001.jpg", running)],
    }


def visual_phrases(root):
    shown = {"a": ["person", "horse", "person_riding_horse"], "b": ["absolute_negatives"]}
    shown |= {"c": ["person_jumping", "person_riding_horse", "person"]}
    for image, names in shown.items():
        images(root / "JPEGImages", f"{image}.jpg")
        box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        objects = "".join(f"<object><name>{name}</name>{box}</object>" for name in names)
        size = "<size><width>40</width><height>30</height></size>"
        text(root / f"Annotations/{image}.xml", f"<annotation>{size}{objects}</annotation>")
    text(root / "ImageSets/Main/trainval.txt", "c", "b")
    text(root / "ImageSets/Main/test.txt", "a")
    marks = [
        {"person_jumping": jumps, "person_riding_horse": rides}
        for jumps, rides in ((1, 1), (0, 0), (0, 1))
    ]
    files = [f"JPEGImages/{image}.jpg" for image in "cba"]
    rows = list(zip(files, marks, strict=True))
    return {"train": rows[:2], "val": rows[2:]}


def voc2007(root):
    image_trees.voc_folder(root)
    rows = {}
    for split, part in image_trees.VOC_IMAGES.items():
        rows[split] = []
        for name, objects in part.items():
            hard = {name: -1 for name, difficult in objects if difficult}
            clear = {name: 1 for name, difficult in objects if not difficult}
            marks = dict.fromkeys(voc.CLASSES, 0) | hard | clear
            rows[split].append((f"VOC2012/JPEGImages/{name}.jpg", marks))
    return {"train": rows["train"] + rows["val"], "val": rows["test"]}


def voc_actions(root):
    image_trees.voc_folder(root)
    rows = {}
    for split, people in image_trees.VOC_PEOPLE.items():
        rows[split] = []
        for (name, place), said in people.items():
            left, top, right, bottom = image_trees.voc_box(place)
            marks = {a: {1: 1, 0: -1, -1: 0}[said.get(a, -1)] for a in voc.ACTIONS}
            box = left - 1, top - 1, right, bottom
            rows[split].append((f"VOC2012/JPEGImages/{name}.jpg", marks, box))
    return rows


def holidays(root):
    images(root / "jpg", *(f"{number}.jpg" for number in (100000, 100001, 100002, 100100, 100101)))
    name = "jpg/{}.jpg".format
    return {
        (name(100000), None): ({name(100001), name(100002)}, {name(100000)}),
        (name(100100), None): ({name(100101)}, {name(100100)}),
    }


def ukbench(root):
    names = [f"ukbench{number:05d}.jpg" for number in range(8)]
    images(root, *names)
    return {(name, None): (set(names[4 * (i // 4) :][:4]), set()) for i, name in enumerate(names)}


def landmarks(root, prefix="", folder="images/"):
    """Two queries of one building, one of another."""
    names = [f"{prefix}{name}_000001" for name in ("hall_a", "hall_b", "hall_c", "pub", "tower")]
    file = {name: f"{folder}{name}.jpg" for name in names}
    images(root, *file.values())
    a, b, c, pub, tower = names
    marked = {
        "hall_1": (a, [a], [b], [c]),
        "hall_2": (b, [b, a], [], []),
        "tower_1": (tower, [tower], [], [pub]),
    }
    expected = {}
    for query, (image, *lists) in marked.items():
        box = 1.5, 2, 21.5, 22
        first = image if prefix else f"oxc1_{image}"
        text(root / f"gt/{query}_query.txt", " ".join(map(str, (first, *box))))
        for kind, listed in zip(("good", "ok", "junk"), lists, strict=True):
            text(root / f"gt/{query}_{kind}.txt", *listed)
        good, ok, junk = ({file[name] for name in listed} for listed in lists)
        expected[file[image], box] = good | ok, junk
    return expected


LAYOUTS = {
    **{f.__name__: f for f in (voc2007, mit67, sun397, sun_attributes, apascal, h3d, pets, cub200)},
    **{f.__name__: f for f in (flowers102, voc_actions, stanford40, visual_phrases)},
    "holidays": holidays,
    "ukbench": ukbench,
    "oxford5k": landmarks,
    "paris6k": lambda root: landmarks(root, "paris_", "paris/hall/"),
    "sculptures": lambda root: landmarks(root, "Henry_Moore_", ""),
}


def opener(data_dir):
    return lambda fields: open_dataset(DatasetSpec(**fields), data_dir)


def opened(name, root, data_dir, **changes):
    """The task of that name, its images as they are."""
    row = BENCHMARKS[name]
    dataset = {**row.dataset, "path": str(root), "image_size": None}
    row = dataclasses.replace(row, dataset=dataset, **changes)
    return row, open_task(row, opener(data_dir))


def part(root, file, box=None):
    image = np.asarray(Image.open(root / file).convert("RGB"))
    left, top, right, bottom = (round(edge) for edge in box or (0, 0, *image.shape[1::-1]))
    return image[top:bottom, left:right]


def test_the_table_has_the_papers_seventeen_tasks():
    assert list(LAYOUTS) == list(BENCHMARKS)
    rows = list(BENCHMARKS.values())
    groups = [key for key, _ in itertools.groupby(row.group for row in rows)]
    assert tuple(groups) == GROUPS
    assert [row.name for row in rows if row.group == GROUPS[-1]] == RETRIEVAL


RETRIEVAL = [name for name, row in BENCHMARKS.items() if row.protocol == "retrieval"]


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name not in RETRIEVAL])
def test_classification(name, tmp_path):
    root = tmp_path / "kit"
    expected = LAYOUTS[name](root)
    changes = {"train_per_class": 2, "test_per_class": 1} if "all" in expected else {}
    row, task = opened(name, root, tmp_path / "data", **changes)
    parts = {"train": task.train, "val": task.val}
    if "all" in expected:  # No splits: each seed draws its own.
        assert len(task.train[0]) == 4 and len(task.val[0]) == 2
        assert not set(task.train[0]) & set(task.val[0])
        assert open_task(row, opener(tmp_path / "data"), seed=1) != task
        expected = {k: [expected["all"][row] for row in rows] for k, (rows, _) in parts.items()}
    for split, (rows, labels) in parts.items():
        for place, label, (file, shown, *box) in zip(rows, labels, expected[split], strict=True):
            np.testing.assert_array_equal(task.dataset.image(place), part(root, file, *box))
            if row.protocol == "single":
                assert task.class_names[label] == shown
            else:
                assert dict(zip(task.class_names, label.tolist(), strict=True)) == shown


@pytest.mark.parametrize("name", RETRIEVAL)
def test_retrieval(name, tmp_path):
    root = tmp_path / "kit"
    expected = LAYOUTS[name](root)
    _, task = opened(name, root, tmp_path / "data")
    assert isinstance(task, RetrievalTask)
    looks = {path.relative_to(root).as_posix(): path for path in root.rglob("*.jpg")}
    looks = {part(root, file).tobytes(): file for file in looks}
    files = [looks[task.dataset.image(row).tobytes()] for row in task.references]
    assert sorted(files) == sorted(looks.values())
    queries = {part(root, *key).tobytes(): key for key in expected}
    found = {}
    for query, right, junk in zip(task.queries, task.relevant, task.junk, strict=True):
        asked = queries[task.dataset.image(query).tobytes()]
        found[asked] = {files[i] for i in right}, {files[i] for i in junk}
    assert found == expected


def test_a_broken_image_leaves_the_others_in_their_places(tmp_path):
    root = tmp_path / "kit"
    landmarks(root, "paris_", "")
    write(root / "paris_hall_b_000001.jpg", b"broken")
    text(root / "gt/hall_2_query.txt", "paris_pub_000001 0 0 40 30")
    _, task = opened("paris6k", root, tmp_path / "data")
    names = [task.dataset.ids[row].split("_")[1:3] for row in task.references]
    assert names == [["hall", "a"], ["hall", "c"], ["pub", names[2][1]], ["tower", names[3][1]]]
    assert [places.tolist() for places in task.relevant] == [[0], [0], [3]]
    assert [places.tolist() for places in task.junk] == [[1], [], [2]]


def test_what_is_missing_is_left_out_with_a_line_that_says_where_it_was_looked_for(tmp_path):
    there = BENCHMARKS["holidays"]
    holidays(tmp_path / "holidays")
    pets(tmp_path / "oxford-iiit-pet")
    (tmp_path / "oxford-iiit-pet/images/Abyssinian_1.jpg").unlink()

    def open_below(fields):
        path = tmp_path / fields["path"]
        return opener(tmp_path / "data")({**fields, "path": str(path), "image_size": 16})

    asked = [there, BENCHMARKS["pets"], BENCHMARKS["mit67"]]
    tasks, missing = open_tasks(asked, open_below)
    assert list(tasks) == ["holidays"] and len(missing) == 2
    lost = (tmp_path / "oxford-iiit-pet/images/Abyssinian_1.jpg", tmp_path / "indoorCVPR_09")
    for line, row, path in zip(missing, asked[1:], lost, strict=True):
        assert line.startswith(f"{row.name} is left out") and str(path) in line
        assert "\n" not in line
    nowhere = Benchmark("x", GROUPS[0], dataset={"kind": "pets", "path": "nowhere"})
    with pytest.raises(FileNotFoundError, match=f"nowhere in .* or {tmp_path}"):
        open_task(nowhere, opener(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no image in the layout of 'ukbench'"):
        layout(tmp_path / "empty", "ukbench")


def test_sun397_has_ten_partitions(tmp_path):
    sun397(tmp_path)
    text(tmp_path / "Training_03.txt", "/a/abbey/2.jpg", "/a/abbey/1.jpg", "/b/bar/1.jpg")
    text(tmp_path / "Testing_03.txt", "/b/bar/2.jpg")
    found = layout(tmp_path, "sun397", partition=3)
    assert found.files == ["a/abbey/1.jpg", "a/abbey/2.jpg", "b/bar/1.jpg", "b/bar/2.jpg"]
    assert found.labels.tolist() == [0, 0, 1, 1] and found.splits["val"].tolist() == [3]
    with pytest.raises(FileNotFoundError, match="Training_04"):
        layout(tmp_path, "sun397", partition=4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"group": "objects"},
            "group of task 'mine' must be one of image classification, .*'objects'",
        ),
        ({"protocol": "ranking"}, "protocol of task 'mine'.*'ranking'"),
        ({"metric": "ns_score"}, "metric of task 'mine' must be .*accuracy.*got 'ns_score'"),
        ({"classes": ("cat", "zebra")}, "has no class 'zebra'"),
        ({"splits": ("train", "test")}, "has the splits train, val, not train and test"),
        ({"protocol": "multilabel", "train_per_class": 7}, "21 training images leave none of 21"),
        ({"test_per_class": 4}, "'mine': test_per_class is given without train_per_class"),
    ],
)
def test_tasks_without_meaning(fields, message, tmp_path):
    image_trees.image_folder(tmp_path / "photos")
    of = {"kind": "folder", "path": str(tmp_path / "photos")}
    with pytest.raises(ValueError, match=message):
        open_task(
            Benchmark(**{"name": "mine", "group": GROUPS[0], "dataset": of} | fields),
            opener(tmp_path),
        )


def test_a_task_of_five_fields(tmp_path):
    image_trees.image_folder(tmp_path / "photos", train=3)
    of = {"kind": "folder", "path": str(tmp_path / "photos"), "image_size": 16}
    mine = {"name": "mine", "group": "fine-grained", "dataset": of}
    task = open_task(Benchmark(**mine, protocol="single", metric="accuracy"), opener(tmp_path))
    assert task.train[1].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2] and task.class_names[1] == "dog"
    task = open_task(Benchmark(**mine, classes=("owl", "cat")), opener(tmp_path))
    assert task.class_names == ("cat", "owl") and np.bincount(task.val[1]).tolist() == [2, 2]
    without = open_task(Benchmark(**mine, without=("dog",)), opener(tmp_path))
    assert without.class_names == task.class_names
    np.testing.assert_array_equal(without.val[0], task.val[0])
    several = open_task(
        Benchmark(**mine, protocol="multilabel", metric="mean_auc"), opener(tmp_path)
    )
    np.testing.assert_array_equal(several.val[1], np.eye(3)[[0, 0, 1, 1, 2, 2]])
    found = open_task(Benchmark(**mine, protocol="retrieval"), opener(tmp_path))
    assert len(found.queries) == 6 and len(found.references) == 9
    assert found.relevant[2].tolist() == [3, 4, 5] and not any(map(len, found.junk))


def test_class_folders_are_divided_anew_by_each_seed(tmp_path):
    for index in range(33):
        images(tmp_path / "folders", f"b/{index}.jpg", f"a/{index}.jpg")
    of = {"kind": "class_folder", "path": str(tmp_path / "folders"), "image_size": 8}
    by_default = Benchmark("mine", GROUPS[0], dataset=of)
    drawn = dataclasses.replace(by_default, train_per_class=5, test_per_class=4)
    tasks = [open_task(drawn, opener(tmp_path), seed) for seed in (0, 1, 0)]
    assert tasks[0] == tasks[2] != tasks[1]
    for task, counts in ((open_task(by_default, opener(tmp_path)), (30, 3)), (tasks[0], (5, 4))):
        assert np.bincount(task.train[1]).tolist() == [counts[0]] * 2
        assert np.bincount(task.val[1]).tolist() == [counts[1]] * 2
        assert not set(task.train[0]) & set(task.val[0])


WORLD = {
    "families": ("single", {"kind": "world"}, ("bird", "car")),
    "coats": ("multilabel", {"kind": "world_attributes"}, ("colour",)),
    "butterflies": ("single", {"kind": "world_instances", "instances": 3}, ()),
    "sides": ("single", {"kind": "world_relations", "name": "oak,mug"}, ("left of",)),
    "objects": (
        "retrieval",
        {"kind": "world_retrieval", "instances": 1, "name": "pose"},
        ("bird",),
    ),
}


@pytest.mark.parametrize("name", WORLD)
def test_the_world_gives_every_group(name, tmp_path):
    protocol, fields, classes = WORLD[name]
    fields = {**fields, "image_size": 8, "train_per_class": 2, "val_per_class": 1}
    row = Benchmark(name, GROUPS[list(WORLD).index(name)], protocol, "", fields, classes=classes)
    first, again = (open_task(row, opener(tmp_path)) for _ in range(2))  # the second from its file
    assert first.digest == again.digest and first.dataset.class_names == again.dataset.class_names
    if protocol == "retrieval":
        assert [len(each) for each in first.relevant] == [2] * 4 and len(first.references) == 120
        asked = [first.dataset.class_names[first.dataset.labels[row]] for row in first.queries]
        assert asked == ["duck 0", "flamingo 0", "owl 0", "parrot 0"]
        return
    names = {
        "families": ("car", "duck", "flamingo", "owl", "parrot"),
        "coats": ("red", "yellow", "green", "blue", "violet", "white"),
        "butterflies": ("butterfly 0", "butterfly 1", "butterfly 2"),
        "sides": ("oak left of mug", "mug left of oak"),
    }
    assert first.class_names == again.class_names == names[name]
    counts = {"coats": (80, 40)}.get(name, (2 * len(names[name]), len(names[name])))
    assert (len(first.train[0]), len(first.val[0])) == counts


MARKS = st.lists(
    st.lists(st.sampled_from([-1, 0, 1]), min_size=3, max_size=3), min_size=9, max_size=9
)
ROWS = st.lists(st.integers(0, 8), min_size=1, unique=True)


@settings(max_examples=40, deadline=None)
@given(MARKS, ROWS, ROWS, st.booleans(), st.sampled_from(["mean_ap", "ns_score"]))
def test_what_is_relevant_and_what_is_junk(marks, references, queries, several, metric):
    """Against a plain reading of the labels, for any sets of queries and references."""
    labels = np.array(marks) if several else np.array(marks)[:, 0]
    splits = {"train": np.array(references), "val": np.array(queries)}
    names = "abc" if several else "ab"
    pictures = np.zeros((9, 2, 2, 3), np.uint8)
    dataset = Dataset.from_arrays(pictures, labels, names, splits=splits)
    row = Benchmark("mine", GROUPS[-1], "retrieval", metric)
    task = open_task(row, lambda fields: dataset)
    shown = {q: np.flatnonzero(labels[q] == 1) if several else labels[[q]] for q in queries}
    asked = [query for query in queries if len(shown[query]) == 1 and shown[query] >= 0]
    assert task.queries.tolist() == asked
    for query, right, junk in zip(asked, task.relevant, task.junk, strict=True):
        expected = {1: [], -1: []}
        for place, reference in enumerate(references):
            label = shown[query][0]
            mark = labels[reference, label] if several else int(labels[reference] == label)
            if reference == query and metric == "mean_ap":
                mark = -1
            expected.get(mark, []).append(place)
        assert (right.tolist(), junk.tolist()) == (expected[1], expected[-1])


def test_queries_of_objects_are_drawn_anew_by_each_seed():
    labels = np.repeat([0, 1, 2, -1], [4, 3, 2, 5])
    splits = {"train": np.arange(14), "val": []}
    dataset = Dataset.from_arrays(np.zeros((14, 2, 2, 3), np.uint8), labels, "abc", splits=splits)
    row = Benchmark("mine", GROUPS[-1], "retrieval", test_per_class=1)
    tasks = [open_task(row, lambda fields: dataset, seed) for seed in range(9)]
    for task in tasks:
        assert labels[task.queries].tolist() == [0, 1, 2]
        assert sorted([*task.queries, *task.references]) == list(range(14))
        assert [len(each) for each in task.relevant] == [3, 2, 1] and not any(map(len, task.junk))
    assert len({task.digest for task in tasks}) > 3
    assert tasks[0].digest == open_task(row, lambda fields: dataset, 0).digest
