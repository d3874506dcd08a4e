"""The paper's notation: what a cell copies, what it freezes, and what is refused."""

import jax
import numpy as np
import pytest
from hypothesis import given, strategies as st

from transfer_jax.networks import alexnet_mini
from transfer_jax.transfer import Treatment, lower_layers

NET = alexnet_mini(4, widths={"conv1": 4, "conv2": 4, "fc6": 8, "fc7": 8})
BASE = NET.init(jax.random.key(10))


@given(
    st.text(max_size=6)
    | st.from_regex(r"base[A-Z]|[A-Z][0-9]{1,2}[A-Z](\+[0-9]?)?", fullmatch=True)
)
def test_what_is_read_is_written_back_and_all_else_refused(text):
    try:
        assert str(Treatment.parse(text)) == text
    except ValueError as error:
        assert "A3B+" in str(error)


@pytest.mark.parametrize(
    ("text", "kind", "copies", "frozen"),
    [
        ("baseA", "base", False, 0),
        ("B3B", "selffer_frozen", True, 3),
        ("B3B+", "selffer_finetuned", True, 0),
        ("A3B", "transfer_frozen", True, 3),
        ("B7A", "transfer_frozen", True, 7),
        ("A3B+", "transfer_finetuned", True, 0),
        ("A7B+1", "transfer_finetuned", True, 1),
        ("B3B+2", "selffer_finetuned", True, 2),
        ("R5W", "random_frozen", False, 5),
    ],
)
def test_what_each_cell_means(text, kind, copies, frozen):
    treatment = Treatment.parse(text)
    assert (treatment.kind, treatment.copies) == (kind, copies)
    assert treatment.frozen_layers(NET) == lower_layers(NET, frozen)


REFUSED = "A0B R3B+ A3R baseR A03B A3B++ a3b AB A3B+3 A3B+0 A3B1 R3B+1 baseA+1"


@pytest.mark.parametrize("text", ["", *REFUSED.split()])
def test_cells_that_cannot_be_are_refused(text):
    with pytest.raises(ValueError, match="expected a base such as"):
        Treatment.parse(text)


def test_a_transfer_starts_as_its_base_below_and_fresh_above():
    key = jax.random.key(0)
    params, fresh = Treatment.parse("A3B").init_params(NET, key, BASE), NET.init(key)
    for name in NET.layer_names:
        origin = BASE if name in ("conv1", "conv2", "conv3") else fresh
        np.testing.assert_array_equal(params[name]["kernel"], origin[name]["kernel"])
    with pytest.raises(ValueError, match="base=None"):
        Treatment.parse("A3B").init_params(NET, key)


def test_bases_are_fresh_draws_and_random_cells_freeze_the_draw_that_they_are_given():
    key = jax.random.key(0)
    base = Treatment.parse("baseB").init_params(NET, key, scheme="he")
    jax.tree.map(np.testing.assert_array_equal, base, NET.init(key, "he"))
    params = Treatment.parse("R2B").init_params(NET, key, BASE)
    assert params["conv2"]["kernel"] is BASE["conv2"]["kernel"]
    assert params["conv3"]["kernel"] is not BASE["conv3"]["kernel"]
