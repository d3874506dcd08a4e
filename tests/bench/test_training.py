import jax
import numpy as np
import pytest

from transfer_jax.bench.training import SyntheticData, recipe_for, train_loop
from transfer_jax.networks import caffenet
from transfer_jax.training.step import Program


@pytest.fixture(scope="module")
def loops(tiny_network):
    """name -> a loop after 8 updates from the same weights on the same images."""
    data = SyntheticData.draw(tiny_network, 8)
    params = (tiny_network.init(jax.random.key(0)),)
    program = Program(tiny_network, recipe_for(tiny_network, 8), (0,))
    loops = {
        "ours": train_loop(program, params, data),
        "plain": train_loop(program, params, data, implementation="plain"),
        "scanned": train_loop(program, params, data, steps_per_call=4),
    }
    for loop in loops.values():
        loop.run(8 // loop.steps_per_call)
    return loops


def test_the_two_forms_are_two_programs(loops):
    # The plain form's max pooling has a gradient that no other operation of the network needs.
    assert "select_and_scatter" in loops["plain"].text
    assert "select_and_scatter" not in loops["ours"].text


def test_the_forms_do_the_same_work(loops):
    ours, plain = loops["ours"].losses(), loops["plain"].losses()
    assert ours.shape == (8, 1)
    np.testing.assert_allclose(ours, plain, rtol=1e-4)


def test_several_steps_in_one_call_are_the_same_steps(loops):
    np.testing.assert_allclose(
        loops["scanned"].losses()[:, 0], loops["ours"].losses()[3::4, 0], rtol=1e-4
    )


def test_flops_are_those_of_one_step(loops, tiny_network):
    counted = 8 * tiny_network.train_flops()
    assert loops["ours"].flops > counted / 2
    assert loops["scanned"].flops == pytest.approx(loops["ours"].flops, rel=0.01)
    assert loops["ours"].compile_seconds > 0


def test_large_images_are_fewer_and_cut_as_caffe_does():
    network = caffenet(10)
    data = SyntheticData.draw(network, 4)
    assert data.source.images.shape[1:] == (256, 256, 3)
    assert data.source.images.nbytes <= 2**27 and data.batches.max() < len(data.source.images)
    recipe = recipe_for(network, 4, "bfloat16")
    assert (recipe.augmentation.size, recipe.augmentation.pad) == (227, 0)
    assert recipe.dtype == "bfloat16"


def test_data_are_the_same_in_every_run(tiny_network):
    one, two = (SyntheticData.draw(tiny_network, 8) for _ in range(2))
    np.testing.assert_array_equal(one.source.images, two.source.images)
    np.testing.assert_array_equal(one.batches, two.batches)
    assert one.source.images.dtype == np.uint8
    assert one.source.labels.max() == tiny_network.num_classes - 1
