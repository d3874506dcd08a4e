import jax
import pytest

from transfer_jax.bench import memory
from transfer_jax.networks import caffenet
from transfer_jax.training.step import Program, initial_state


def test_optimiser_state_is_of_the_layers_that_learn():
    network = caffenet()
    sizes = {n: memory.state_bytes(network, n) for n in range(8)}
    weights = 4 * network.num_params
    counter = 4
    for n, found in sizes.items():
        assert found.learned + found.shared == weights
        assert found.optimiser == found.learned + counter
        # Two moments, a counter for them and one for the schedule.
        assert memory.state_bytes(network, n, "adamw").optimiser == 2 * found.learned + 2 * counter
    assert sizes[7].learned == 4 * (4096 * 1000 + 1000)


def test_state_bytes_are_those_of_the_real_state(tiny_network):
    program = Program(tiny_network, memory.recipe_for(tiny_network, 8), (1,))
    state, shared = initial_state(program, (tiny_network.init(jax.random.key(0)),))
    found = memory.state_bytes(tiny_network, 1)
    for tree, size in ((state.learned, found.learned), (state.opt_state, found.optimiser)):
        assert sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) == size
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(shared)) == found.shared


def test_a_larger_batch_needs_more(tiny_network):
    small, large = (memory.step_bytes(tiny_network, batch) for batch in (8, 64))
    assert large.temporaries > 2 * small.temporaries
    images = 56 * (8 * 8 * 3 + 2 * 4)  # pixels, label, place
    assert large.arguments - small.arguments == images
    assert small.peak >= memory.state_bytes(tiny_network, 0).learned


@pytest.mark.parametrize("limit, real, expected", [(1000, 10**6, 1000), (1000, 900, 900)])
def test_largest_batch_is_bisected_and_run(limit, real, expected):
    tried = []

    def fits(batch):
        tried.append(batch)
        return batch <= real

    found = memory.largest_batch(limit, lambda batch: batch, fits, grain=4)
    assert found == tried[-1] and found <= real
    assert expected * 0.93 < found <= expected


def test_nothing_fits():
    assert memory.largest_batch(10, lambda batch: 100, lambda batch: True) == 0


def test_out_of_memory_is_an_answer_and_other_errors_are_not(tiny_network, monkeypatch):
    assert memory.runs(tiny_network, 4, "float32", "sgd")

    def fail(message):
        def loop(*arguments):
            raise jax.errors.JaxRuntimeError(message)

        monkeypatch.setattr(memory, "train_loop", loop)

    fail("RESOURCE_EXHAUSTED: out of memory")
    assert not memory.runs(tiny_network, 4, "float32", "sgd")
    fail("INTERNAL: something else")
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        memory.runs(tiny_network, 4, "float32", "sgd")
