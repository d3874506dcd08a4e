import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer_jax.networks import alexnet_mini
from transfer_jax.transfer import Treatment, lower_layers

NET = alexnet_mini(4, widths={"conv1": 4, "conv2": 4, "fc6": 8, "fc7": 8})
BASE = NET.init(jax.random.key(10))

texts = st.one_of(
    st.sampled_from(["baseA", "baseB", "baseW"]),
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from("AB"),
        st.integers(1, 7),
        st.sampled_from("AB"),
        st.sampled_from(["", "+"]),
    ),
    st.builds("R{}{}".format, st.integers(1, 7), st.sampled_from("ABW")),
)


@given(texts)
def test_parsing_and_writing_are_inverse(text):
    assert str(Treatment.parse(text)) == text
    assert Treatment.parse(str(Treatment.parse(text))) == Treatment.parse(text)


@pytest.mark.parametrize(
    ("text", "kind", "base", "frozen"),
    [
        ("baseA", "base", None, 0),
        ("B3B", "selffer_frozen", "baseB", 3),
        ("B3B+", "selffer_finetuned", "baseB", 0),
        ("A3B", "transfer_frozen", "baseA", 3),
        ("B7A", "transfer_frozen", "baseB", 7),
        ("A3B+", "transfer_finetuned", "baseA", 0),
        ("R5W", "random_frozen", None, 5),
    ],
)
def test_what_each_cell_means(text, kind, base, frozen):
    treatment = Treatment.parse(text)
    assert treatment.kind == kind
    assert (str(treatment.base) if treatment.base else None) == base
    assert treatment.frozen_layers(NET) == lower_layers(NET, frozen)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A8B", "n=8.*1..7"),
        ("A0B", "n=0.*1..7"),
        ("A12B", "n=12"),
        ("C3B", "unknown task 'C'"),
        ("A3C", "unknown task 'C'"),
        ("baseC", "unknown task 'C'"),
        ("R3B+", "baseB"),
        ("A3R", "'R' stands for random"),
        ("A03B", "malformed"),
        ("A3B++", "malformed"),
        ("a3b", "malformed"),
        ("A3B ", "malformed"),
        ("A\u0663B", "malformed"),
        ("AB", "malformed"),
        ("base", "malformed"),
        ("", "malformed"),
        (None, "not a string"),
    ],
)
def test_illegal_notation_is_refused_with_an_example(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        Treatment.parse(text)
    assert "A3B" in str(caught.value) or "base" in str(caught.value)


@given(st.text(max_size=6))
def test_any_text_parses_or_raises_value_error(text):
    try:
        assert str(Treatment.parse(text)) == text
    except ValueError:
        pass


def test_tasks_can_be_restricted():
    with pytest.raises(ValueError, match="unknown task 'W'"):
        Treatment.parse("R3W", tasks=("A", "B"))


def test_direct_construction_is_checked_too():
    with pytest.raises(ValueError, match="copies nothing"):
        Treatment("A", n=3)
    with pytest.raises(ValueError, match=r"1\.\.7"):
        Treatment("A", "B", 0)


def test_initial_params_of_transfer_are_the_bases_below_and_fresh_above():
    key = jax.random.key(0)
    params = Treatment.parse("A3B").initial_params(NET, key, BASE)
    fresh = NET.init(key)
    for name in NET.layer_names:
        origin = BASE if name in ("conv1", "conv2", "conv3") else fresh
        np.testing.assert_array_equal(params[name]["kernel"], origin[name]["kernel"])
    assert params["conv1"]["kernel"] is BASE["conv1"]["kernel"]


def test_bases_and_random_cells_are_fresh_draws():
    key = jax.random.key(0)
    for text in ("baseB", "R4B"):
        params = Treatment.parse(text).initial_params(NET, key)
        jax.tree.map(np.testing.assert_array_equal, params, NET.init(key))


def test_random_cells_may_share_the_layers_that_they_freeze():
    params = Treatment.parse("R2B").initial_params(NET, jax.random.key(0), BASE)
    assert params["conv2"]["kernel"] is BASE["conv2"]["kernel"]
    assert params["conv3"]["kernel"] is not BASE["conv3"]["kernel"]


def test_missing_base_params_are_asked_for():
    with pytest.raises(ValueError, match="A3B copies from baseA"):
        Treatment.parse("A3B").initial_params(NET, jax.random.key(0))
