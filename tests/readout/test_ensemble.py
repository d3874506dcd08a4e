import jax
import numpy as np
import pytest

from tests import small
from tests.readout.test_features import NETWORK, PARAMS, VIEW, Pictures
from transfer_jax.data.augment import eval_view, ten_crop_view
from transfer_jax.readout.ensemble import Predictions, average_probabilities, ensemble, predict

LABELS = small.source(23, 2, size=9).labels


def test_the_average_worked_by_hand_turns_wrong_into_right():
    labels = np.array([0, 1])
    sure = Predictions(np.array([[0.9, 0.1, 0.0], [0.1, 0.4, 0.5]]), labels)
    unsure = Predictions(np.array([[0.4, 0.6, 0.0], [0.2, 0.5, 0.3]]), labels)
    assert sure.error() == 0.5 and unsure.error() == 0.5
    both = ensemble([sure, unsure])
    np.testing.assert_allclose(both.probabilities, [[0.65, 0.35, 0], [0.15, 0.45, 0.4]])
    assert both.error() == 0 and both.error(2) == 0
    assert ensemble([sure]).error() == sure.error()


@pytest.mark.parametrize("ten_crop", [False, True])
def test_predictions_are_the_networks_probabilities(ten_crop):
    pictures = Pictures()
    found = predict(
        NETWORK, PARAMS, pictures, "val", range(23), LABELS, **VIEW, ten_crop=ten_crop, batch_size=8
    )
    arguments = (pictures.pixels, VIEW["augmentation"], VIEW["mean"], VIEW["scale"])
    views = ten_crop_view(*arguments) if ten_crop else eval_view(*arguments)[:, None]
    each = [jax.nn.softmax(NETWORK.apply(PARAMS, views[:, i])) for i in range(views.shape[1])]
    wanted = np.mean(each, axis=0)
    np.testing.assert_allclose(found.probabilities, wanted, atol=1e-5)
    assert found.error() == pytest.approx(np.mean(wanted.argmax(axis=1) != LABELS))


def test_members_of_different_images_or_classes_are_refused():
    one = Predictions(np.full((3, 2), 0.5), np.array([0, 1, 0]))
    with pytest.raises(ValueError, match=r"members 0 and 1 differ in 2 labels, first .* image 0"):
        ensemble([one, Predictions(one.probabilities, np.array([1, 0, 0]))])
    with pytest.raises(ValueError, match=r"member 1 .* shape \(3, 4\)"):
        ensemble([one, Predictions(np.full((3, 4), 0.25), one.labels)])
    with pytest.raises(ValueError, match="at least one member"):
        average_probabilities([])


@pytest.mark.parametrize("bad", [np.array([[2.0, -1.0]]), np.array([[0.5, 0.4]]), np.ones((1, 2))])
def test_logits_are_not_taken_for_probabilities(bad):
    with pytest.raises(ValueError, match="member 0: rows should be distributions"):
        average_probabilities([bad])
    with pytest.raises(ValueError, match="rows should be distributions"):
        Predictions(bad, np.array([0]))
    with pytest.raises(ValueError, match=r"lie in 0 \.\. 1"):
        Predictions(np.array([[0.5, 0.5]]), np.array([2]))
