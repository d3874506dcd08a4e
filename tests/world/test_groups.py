"""Pictures of attributes, instances and relations, against what they show."""

import collections
import dataclasses

import numpy as np
import pytest
from scipy.stats import chi2_contingency
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from transfer_jax import world
from transfer_jax.world import groups, rendering, scenes
from transfer_jax.world.canvas import PATTERNS

MAKERS = {
    world.attribute_arrays: {"train_per_class": 2, "val_per_class": 1},
    world.instance_arrays: {"train_per_class": 4, "val_per_class": 2, "name": "zebra"},
    world.relation_arrays: {"train_per_class": 4, "val_per_class": 2},
    world.retrieval_arrays: {"instances": 1, "train_per_class": 2},
}


@pytest.mark.parametrize("make", MAKERS)
def test_every_picture_is_its_own_and_settled_by_the_seed(make):
    first, again, other = (make(12, **MAKERS[make], seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first["images"], again["images"])
    np.testing.assert_array_equal(first["labels"], again["labels"])
    assert (first["images"] != other["images"]).any(axis=(1, 2, 3)).all()
    assert len({image.tobytes() for image in first["images"]}) == len(first["images"])
    rows = np.concatenate([first["splits"]["train"], first["splits"]["val"]])
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(first["labels"])))
    assert tuple(path[-1] for path in first["class_paths"]) == first["class_names"]
    # More pictures leave those there were as they are.
    more = make(12, **MAKERS[make] | {"train_per_class": 5}, seed=3)
    known = {image.tobytes() for image in more["images"]}
    assert all(image.tobytes() in known for image in first["images"])


def test_drawings_stay_what_they_are():
    # Datasets are named after their settings, not their pixels.
    expected = [
        117.4,
        120.9,
        104.8,
        124.5,
        165.5,
        125.2,
        135.5,
        128.1,
        124.0,
        173.9,
        93.1,
        148.1,
        93.8,
        99.7,
        94.3,
        181.7,
    ]
    pictures = [make(16, **options)["images"][:16:4] for make, options in MAKERS.items()]
    means = np.concatenate(pictures).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(means, expected, atol=0.6)


@pytest.fixture
def drawn(monkeypatch):
    """What was asked of the renderer, and what it returned."""
    calls = []

    def render(things, setting, *, size):
        images, boxes = world.render(things, setting, size=size)
        calls.append((things, setting, images, boxes))
        return images, boxes

    monkeypatch.setattr(groups, "render", render)
    return calls


def _silhouettes(things, setting):
    blank = lambda: np.zeros((len(setting.keys), 3, 48, 48), np.float32)  # noqa: E731
    return [rendering._paint_objects(blank(), *thing, setting) for thing in things]


def _without(record, field):
    return dataclasses.replace(record, **{field: np.zeros_like(getattr(record, field))})


def _middle(weights):
    return (weights.sum(axis=1) * np.arange(weights.shape[2])).sum(axis=1) / weights.sum((1, 2))


def test_attributes_are_what_the_picture_shows(drawn):
    arrays = world.attribute_arrays(48, 6, 1)
    (((dressed, pose),), setting, images, boxes), _ = drawn
    labels = arrays["labels"][arrays["splits"]["train"]]
    said = dict(zip(arrays["class_names"], labels.T, strict=True))
    ymin, xmin, ymax, xmax = boxes[:, 0].T
    clear = (ymax > ymin) & (setting.occlusion == 0)

    def area_under_curve(name, scores, known=clear):
        known = known & (said[name] >= 0)
        return roc_auc_score(said[name][known], scores[known])

    assert area_under_curve("left", -xmin - xmax) > 0.95
    assert area_under_curve("high", -ymin - ymax) > 0.95
    assert area_under_curve("large", np.maximum(ymax - ymin, xmax - xmin)) > 0.9

    def redrawn(things, setting):
        return world.render(things, setting, size=48)[0]

    def changed(*scene):
        return (redrawn(*scene) != images).any(axis=(1, 2, 3))

    things = [(dressed, pose)]
    assert np.array_equal(changed(things, _without(setting, "occlusion")), said["occluded"] == 1)
    assert np.array_equal(changed(things, _without(setting, "built")), said["outdoors"] == 0)
    plain = [(_without(dressed, "patterns"), pose)]
    assert np.array_equal(changed(plain, setting), said["plain"] == 0)

    # The side that the light comes from is the brighter one.
    (shape,) = _silhouettes(things, setting)
    across = np.arange(48) - _middle(shape)[:, None, None]
    turned = dataclasses.replace(setting, light_angle=np.pi - setting.light_angle)
    gain = (images.astype(float) - redrawn(things, turned)).mean(axis=-1) * shape
    assert area_under_curve("lit from left", -(gain * np.sign(across)).sum((1, 2))) > 0.95

    # High up on the side that they face have mammals and birds their heads, vehicles nothing.
    top = np.zeros_like(shape)
    for part, whole in zip(top, shape, strict=True):
        first, last = np.flatnonzero(whole.max(axis=1) > 0.5)[[0, -1]]
        rows = slice(first, first + max(2, (last - first) // 4))
        part[rows] = whole[rows]
    family = np.array([world.CLASSES[k].family for k in dressed.class_ids])
    head = (_middle(shape) - _middle(top)) * np.where(family == "vehicle", -1, 1)
    assert area_under_curve("faces left", head, family != "vehicle") > 0.98
    assert area_under_curve("faces left", head, family == "vehicle") > 0.9


def _coats(class_ids, colour, pattern):
    """Objects in coats, in the middle of an empty room in even light."""
    count = len(class_ids)
    keys = world.make_keys("coats", class_ids, np.arange(count))
    zero = np.zeros(count, np.float32)
    pose = dataclasses.replace(
        world.sample_pose(class_ids, keys), x=zero + 0.5, y=zero + 0.5, scale=zero + 0.5
    )
    setting = dataclasses.replace(
        world.sample_setting(keys), clutter=zero - 1, occlusion=zero, noise=zero, built=zero + 1,
        light_strength=zero, contrast=zero + 1, exposure=np.ones((count, 3), np.float32),
    )  # fmt: skip
    coat = np.asarray([groups.COATS[name] for name in colour], np.float32)
    dressed = scenes.Dressed(class_ids, keys, coat, np.asarray(pattern))
    bare = world.sample_instance(np.full(count, world.ABSENT), keys)
    images, empty = (
        world.render([(instance, pose)], setting, size=48)[0] / 255 for instance in (dressed, bare)
    )
    return images, empty


def test_the_coat_has_the_colour_it_is_called_by():
    names = list(groups.COATS)
    colour = names * 40
    images, empty = _coats(np.repeat(np.arange(40), 6), colour, np.zeros(240, int))
    right = []
    for image, behind, name in zip(images, empty, colour, strict=True):
        inside = image[(np.abs(image - behind) > 0.1).any(axis=-1)]
        hue = inside.mean(axis=0) / np.linalg.norm(inside.mean(axis=0))
        coats = np.asarray([groups.COATS[name] for name in names])
        coats = coats / np.linalg.norm(coats, axis=1, keepdims=True)
        right.append(names[(coats @ hue).argmax()] == name)
    assert np.mean(right) > 0.95


def test_patterns_change_along_the_directions_they_should():
    ids = np.full(40, world.class_id("mug"))
    energies = {}
    for kind in range(len(PATTERNS)):
        images, _ = _coats(ids, ["red"] * 40, np.full(40, kind))
        middle = images[:, 16:32, 16:32, 0]
        dy, dx = (np.abs(step).mean(axis=(1, 2)) for step in np.gradient(middle, axis=(1, 2)))
        energies[PATTERNS[kind]] = np.median(dx / dy), np.median(dx + dy)
    assert energies["plain"][1] < 0.5 * min(energies[name][1] for name in PATTERNS[1:])
    assert energies["striped"][0] < 0.6
    assert all(0.7 < energies[name][0] < 1.5 for name in ("spotted", "chequered"))


def test_no_attribute_tells_the_class():
    arrays = world.attribute_arrays(8, 40, 0)
    labels, ids = arrays["labels"], np.repeat(np.arange(40), 40)
    for name, marks in zip(arrays["class_names"], labels.T, strict=True):
        table = [[np.sum((ids == k) & (marks == mark)) for mark in (0, 1)] for k in range(40)]
        table = np.asarray(table)[[sum(row) > 0 for row in table]]
        assert chi2_contingency(table).pvalue > 1e-3, name
        assert 0.1 < (marks == 1).sum() / (marks >= 0).sum() < 0.6, name
    sided = {
        world.CLASSES[k].name
        for k in ids[labels[:, arrays["class_names"].index("faces left")] >= 0]
    }
    assert {"zebra", "duck", "lorry"} < sided and not sided & {"owl", "apple", "mug", "bee"}


def test_relations_are_what_the_boxes_say(drawn):
    subjects = np.arange(80) % 40
    of = {"split": "train", "size": 48}
    for kind in range(len(groups.RELATIONS)):
        _, boxes = world.render_relations(
            subjects, (subjects + 7) % 40, np.full(80, kind), np.arange(80), **of
        )
        things, setting, _, _ = drawn[-1]
        alone = [world.render([thing], setting, size=48)[1][:, 0] for thing in things]
        other, subject = _silhouettes(things, setting)
        hidden = (other * subject).sum((1, 2)) / other.sum((1, 2))
        across = (boxes[:, 1] - boxes[:, 0])[:, 1::2].mean(axis=1)  # negative: the subject is left
        np.testing.assert_array_equal(boxes[:, 1], alone[1])  # nothing hides it
        assert (boxes[..., 2:] > boxes[..., :2]).all()
        if groups.RELATIONS[kind] == "left of":
            assert across.max() < -0.2 and hidden.max() < 0.15
        else:
            assert np.median(hidden) > 0.3 and np.mean(hidden > 0.05) > 0.9
            assert 0.3 < np.mean(across < 0) < 0.7  # side tells nothing


def test_which_objects_are_there_names_no_relation():
    arrays = world.relation_arrays(8, 3, 2, name="zebra,mug,oak")
    assert np.array_equal(np.bincount(arrays["labels"]), [5] * 12)
    orders = collections.defaultdict(set)
    for (_, kind, name), count in zip(arrays["class_paths"], [5] * 12, strict=True):
        subject, other = name.split(f" {kind} ")
        orders[kind, frozenset((subject, other))].add((subject, count))
    assert len(orders) == 6 and all(len(found) == 2 for found in orders.values())


def test_views_of_one_object():
    hammer, first = np.full(40, world.class_id("hammer")), np.zeros(40, int)
    of = {"split": "train", "size": 48}
    with pytest.raises(ValueError, match="pose, place, both; got 'light'"):
        world.render_views(hammer, first, np.arange(40), change="light", **of)
    shape, place = {}, {}
    for change in groups.CHANGES:
        _, boxes = world.render_views(hammer, first, np.arange(40), change=change, **of)
        sides = boxes[:, 2:] - boxes[:, :2]
        shape[change] = np.subtract(*np.percentile(sides[:, 0] / sides[:, 1], (75, 25)))
        place[change] = (boxes[:, :2] + boxes[:, 2:]).std(axis=0).mean()
    assert shape["place"] < 0.3 * min(shape["pose"], shape["both"])
    assert place["pose"] < 0.6 * min(place["place"], place["both"])


def test_instances_look_alike_from_view_to_view_and_differ_from_one_another():
    arrays = world.instance_arrays(24, 12, 12, instances=5, name="butterfly")
    assert arrays["class_names"] == tuple(f"butterfly {k}" for k in range(5))
    colours = np.concatenate(
        [arrays["images"].mean(axis=(1, 2)), arrays["images"].std(axis=(1, 2))], axis=1
    )
    train, val = arrays["splits"]["train"], arrays["splits"]["val"]
    labels = arrays["labels"]
    found = KNeighborsClassifier(3).fit(colours[train], labels[train])
    assert found.score(colours[val], labels[val]) > 0.3  # by chance 0.2


def test_objects_that_are_sought_and_distractors():
    arrays = world.retrieval_arrays(8, instances=2, train_per_class=3, val_per_class=2)
    labels = {split: arrays["labels"][rows] for split, rows in arrays["splits"].items()}
    assert np.array_equal(np.bincount(labels["val"]), [2] * 80)
    known = labels["train"][labels["train"] >= 0]
    assert np.array_equal(np.bincount(known), [3] * 80)
    assert (labels["train"] == -1).sum() == 80
    assert arrays["class_paths"][3][-2:] == ("banana", "banana 1")
    alone, _ = world.render_views([1], [1], [0], split="val", size=8, scale=(0.22, 0.42))
    row = arrays["splits"]["val"][np.flatnonzero(labels["val"] == 3)[0]]
    np.testing.assert_array_equal(arrays["images"][row], alone[0])
