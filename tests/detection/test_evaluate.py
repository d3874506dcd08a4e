"""Detections and their average precision, against hand, a literal reading of the devkit's code and
COCO's tools."""

import contextlib
import io

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests import small
from tests.detection import scenes
from tests.detection.test_boxes import overlap
from transfer_jax.data.dataset import Boxes
from transfer_jax.detection.boxes import moved
from transfer_jax.detection.evaluate import (
    LEAST_SCORE,
    Detections,
    average_precisions,
    by_image,
    detect,
    judged,
)
from transfer_jax.detection.network import apply_regions, split


def worked():
    """Two images, one class and a second without objects. From the highest score down: the easy
    object of image 0; it again; nothing; the difficult object; the second object of image 1."""
    truth = Boxes.of_rows(
        [
            ([0, 0], [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]], [False, True]),
            ([0, 0], [[0, 0, 0.4, 0.4], [0.6, 0, 1, 0.4]], [False, False]),
        ]
    )
    boxes = [
        [0, 0, 0.5, 0.45],
        [0, 0, 0.4, 0.5],
        [0.4, 0.4, 0.7, 0.9],
        [0.5, 0.5, 1, 0.9],
        [0.6, 0, 1, 0.3],
    ]
    found = Detections(
        np.array([0, 0, 1, 0, 1]), np.zeros(5, int), np.arange(0.9, 0.4, -0.1), np.array(boxes)
    )
    return found, truth


def test_a_case_worked_by_hand():
    found, truth = worked()
    assert judged(found, truth).tolist() == [1, 0, 0, -1, 1]
    # Precisions 1 at recall 1/3 and 2/4 at recall 2/3 of three objects; the third is never found.
    area = average_precisions(found, judged(found, truth), truth, 2, "area")
    assert area[0] == pytest.approx((1 + 1 / 2) / 3)
    eleven = (4 * 1 + 3 * 1 / 2) / 11
    voc2007 = average_precisions(found, judged(found, truth), truth, 2, "voc2007")
    assert voc2007[0] == pytest.approx(eleven) and np.isnan(voc2007[1])
    half = Detections(*(field[:0] for field in found))
    assert average_precisions(half, judged(half, truth), truth, 1, "area").tolist() == [0.0]
    exactly = found._replace(boxes=found.boxes.copy())
    exactly.boxes[0] = [0, 0, 0.5, 0.25]  # half of the object: not more than half
    assert judged(exactly, truth).tolist() == [0, 1, 0, -1, 1]


def random_case(seed, apart=False):
    """Detections around objects of three classes in four images; `apart` objects do not meet."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(4):
        places = rng.permutation(9)[: rng.integers(0, 7)]
        corners = np.stack([places // 3, places % 3], axis=1) / 3
        if not apart:
            corners = rng.random((len(places), 2)) / 2
        sides = rng.uniform(0.2, 0.33, (len(places), 2)) * (1 if apart else 1.5)
        boxes = np.concatenate([corners, corners + sides], axis=1)
        difficult = (rng.random(len(places)) < 0.25) & (not apart)
        rows.append((rng.integers(0, 3, len(places)), boxes, difficult))
    truth = Boxes.of_rows(rows)
    images, labels, boxes = [], [], []
    for image, (of, objects, _) in enumerate(rows):
        for label, box in zip(of, objects, strict=True):
            for _ in range(rng.integers(0, 4)):
                images.append(image)
                labels.append(label if rng.random() < 0.8 else rng.integers(0, 3))
                boxes.append(box + rng.normal(0, 0.03, 4))
    boxes = np.array(boxes).reshape(-1, 4)
    scores = rng.permutation(len(images)) / max(len(images), 1) + 0.01
    labels = np.array(labels, int)
    return Detections(np.array(images, int), labels, scores, boxes), truth


def devkit(found, truth, label, rule):
    """VOCevaldet.m and VOCap.m, line by line; an object must be overlapped by *more* than half."""
    objects = {}
    for image in range(4):
        labels, boxes, difficult = truth[image]
        objects[image] = [
            {"box": b, "diff": d, "det": False}
            for own, b, d in zip(labels, boxes, difficult, strict=True)
            if own == label
        ]
    npos = sum(not one["diff"] for of in objects.values() for one in of)
    mine = [i for i in range(len(found.scores)) if found.labels[i] == label]
    mine.sort(key=lambda i: -found.scores[i])
    tp, fp = np.zeros(len(mine)), np.zeros(len(mine))
    for d, i in enumerate(mine):
        ovmax, best = -np.inf, None
        for one in objects[found.images[i]]:
            ov = overlap(found.boxes[i], one["box"])
            if ov > ovmax:
                ovmax, best = ov, one
        if ovmax > 0.5:
            if not best["diff"]:
                if not best["det"]:
                    tp[d], best["det"] = 1, True
                else:
                    fp[d] = 1
        else:
            fp[d] = 1
    if npos == 0:
        return np.nan
    fp, tp = np.cumsum(fp), np.cumsum(tp)
    rec, prec = tp / npos, tp / np.maximum(fp + tp, 1e-12)
    if rule == "voc2007":
        ap = 0.0
        for t in range(11):
            at = prec[rec >= t / 10 - 1e-9]
            ap += (at.max() if at.size else 0) / 11
        return ap
    mrec, mpre = np.array([0, *rec, 1]), np.array([0, *prec, 0])
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = max(mpre[i], mpre[i + 1])
    steps = np.flatnonzero(mrec[1:] != mrec[:-1]) + 1
    return ((mrec[steps] - mrec[steps - 1]) * mpre[steps]).sum()


@given(st.integers(0, 10_000), st.sampled_from(["voc2007", "area"]))
def test_average_precisions_are_the_devkits(seed, rule):
    found, truth = random_case(seed)
    expected = [devkit(found, truth, label, rule) for label in range(3)]
    ours = average_precisions(found, judged(found, truth), truth, 3, rule)
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_the_area_is_that_of_cocos_tools(seed):
    """Where objects do not meet and none is difficult the two protocols agree; COCO's mean over
    recalls is the area if these are the ones that can be reached."""
    found, truth = random_case(seed, apart=True)
    truths = COCO()
    truths.dataset = {
        "images": [{"id": i} for i in range(4)],
        "categories": [{"id": c} for c in range(3)],
        "annotations": [
            {"id": n + 1, "image_id": i, "category_id": int(label), "iscrowd": 0, **square(box)}
            for n, (i, label, box) in enumerate(
                (i, label, box) for i in range(4) for label, box in zip(*truth[i][:2], strict=True)
            )
        ],
    }
    results = [
        {"image_id": int(i), "category_id": int(c), "score": float(s), **square(b)}
        for i, c, s, b in zip(*found, strict=True)
    ]
    if not results:
        return
    with contextlib.redirect_stdout(io.StringIO()):
        truths.createIndex()
        detections = truths.loadRes(results)
        for label in range(3):
            positives = int((truth.labels == label).sum())
            if not positives:
                continue
            judge = COCOeval(truths, detections, "bbox")
            judge.params.iouThrs, judge.params.catIds = np.array([0.5]), [label]
            judge.params.maxDets, judge.params.areaRng = [1000], [[0, 1e10]]
            judge.params.areaRngLbl = ["all"]
            judge.params.recThrs = np.arange(1, positives + 1) / positives - 1e-9
            judge.evaluate()
            judge.accumulate()
            expected = judge.eval["precision"].mean()
            ours = average_precisions(found, judged(found, truth), truth, 3, "area")[label]
            assert ours == pytest.approx(expected, abs=1e-6)


def square(box):
    top, left, bottom, right = map(float, box)
    area = (bottom - top) * (right - left)
    return {"bbox": [left, top, right - left, bottom - top], "area": area}


def weighted(found, truth, weights):
    """The mean average precision when image i counts weights[i] times, by loops."""
    means, right = [], judged(found, truth)
    for label in range(3):
        there = [
            (i, d) for i in range(4) for c, d in zip(*truth[i][::2], strict=True) if c == label
        ]
        positives = sum(weights[i] for i, difficult in there if not difficult)
        if not positives:
            continue
        mine = [i for i in np.argsort(-found.scores, kind="stable") if found.labels[i] == label]
        hits = misses = 0
        points = []
        for i in mine:
            hits += weights[found.images[i]] * (right[i] == 1)
            misses += weights[found.images[i]] * (right[i] == 0)
            points.append((hits / positives, hits / max(hits + misses, 1e-12)))
        area = last = 0
        for k, (recall, _) in enumerate(points):
            area += (recall - last) * max(precision for _, precision in points[k:])
            last = recall
        means.append(area)
    return np.mean(means)


@given(st.integers(0, 10_000))
def test_what_an_image_adds_is_the_derivative_by_its_weight(seed):
    found, truth = random_case(seed)
    if not (~truth.difficult).any():
        return
    right = judged(found, truth)
    adds = by_image(found, right, truth, 3)
    mean = np.nanmean(average_precisions(found, right, truth, 3, "area"))
    assert adds.mean() == pytest.approx(mean, abs=1e-6)
    for image in range(4):
        weights, step = np.ones(4), 1e-6
        ahead, behind = (
            weighted(found, truth, weights + s * step * np.eye(4)[image]) for s in (1, -1)
        )
        # Where two precisions are equal, the one to a side of it may be meant.
        sides = [(ahead - mean) / 1e-6, (mean - behind) / 1e-6]
        low, high = min(sides) - 1e-3, max(sides) + 1e-3
        assert low <= (adds[image] - mean) / 4 <= high


def test_detections_are_those_of_each_image_alone():
    """Against a loop over images and classes, in batches that do not come out even."""
    task, net = scenes.task(), scenes.network()
    params, mean = net.init(jax.random.key(3)), np.full(3, 100, np.float32)
    params["detect"]["kernel"] *= 30
    task.val[1]["proposals"][2] = 0  # an image without proposals
    found = detect(net, params, small.RECIPE, mean, task, batch_size=4)
    assert 2 not in found.images and len(set(found.images)) == len(task.val[0]) - 1
    images = task.dataset.read(task.val[0])
    for place in (0, 3, 5):
        x = (images[place : place + 1] - mean) / np.float32(60)
        boxes = task.val[1]["proposals"][place]
        boxes = boxes[boxes[:, 2] > boxes[:, 0]]
        logits, by = split(np.asarray(apply_regions(net, params, x, 0, boxes[None]))[0])
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        expected = []
        for label in range(3):
            there = moved(boxes, by[:, label])
            kept = []
            for region in np.argsort(-scores[:, label + 1], kind="stable"):
                near = max((overlap(there[region], there[i]) for i in kept), default=0)
                if scores[region, label + 1] >= LEAST_SCORE and near <= 0.3:
                    kept.append(region)
            expected += [(label, scores[i, label + 1], *there[i]) for i in kept]
        of = found.images == place
        ours = zip(found.labels[of], found.scores[of], *found.boxes[of].T, strict=True)
        np.testing.assert_allclose(sorted(ours), sorted(expected), rtol=1e-3, atol=1e-4)
