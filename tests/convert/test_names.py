import pytest
import torch

from g2vlm.convert.names import check_fit, inverse, listing, rename, translate

TABLE = {"a.{i}.left": "b.{i}.links", "a.{i}.left.0": "b.{i}.nought", "seq.2": "last", "c": "d", "raw.*": "cooked.*"}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.10.left.weight", "b.10.links.weight"),
        ("a.3.left.0.bias", "b.3.nought.bias"),
        ("seq.2.weight", "last.weight"),
        ("c", "d"),
        ("raw.encoder.layer.4.q.bias", "cooked.encoder.layer.4.q.bias"),
        ("seq.1.weight", None),
        ("a.3.right.weight", None),
        ("rawer.x", None),
    ],
)
def test_a_name_is_found_by_its_pattern_in_both_directions(name, wanted):
    assert translate(name, TABLE) == wanted
    if wanted is not None:
        assert translate(wanted, inverse(TABLE)) == name


def test_every_unknown_name_is_listed_those_of_all_layers_on_one_line():
    weights = {f"a.{i}.wrong.weight": torch.zeros(1) for i in (0, 1, 2, 7)} | {
        "e.bias": torch.zeros(1),
        "c": torch.zeros(1),
    }
    with pytest.raises(ValueError, match="5 of 6 names do not belong to a test") as error:
        rename(weights, TABLE, "a test")
    assert str(error.value).splitlines()[1:] == ["  a.{0-2,7}.wrong.weight", "  e.bias"]


def test_two_names_of_one_weight_are_refused():
    table = {"old": "x", "new": "x"}
    with pytest.raises(ValueError, match="2 names stand for the same weights"):
        rename({"old.weight": torch.zeros(1), "new.weight": torch.ones(1)}, table, "a test")


def test_a_table_that_cannot_be_inverted_is_a_bug():
    with pytest.raises(AssertionError):
        inverse({"old": "x", "new": "x"})


def test_a_listing_names_a_single_layer_plainly():
    assert listing(["layers.5.q.weight", "norm.weight", "token"]) == "  layers.5.q.weight\n  norm.weight\n  token"


def test_a_listing_joins_endings_only_where_all_else_agrees():
    names = ["layers.0.q.weight", "layers.1.q.weight", "layers.1.q.bias", "norm.weight", "norm.bias"]
    assert listing(names) == "  layers.{0-1}.q.weight\n  layers.1.q.bias\n  norm.{weight,bias}"


def test_all_that_does_not_fit_is_reported_together():
    expected = {"a.weight": (2, 3), "b.0.bias": (4,), "b.1.bias": (4,)}
    check_fit(expected, {name: torch.zeros(shape) for name, shape in expected.items()}, "a test")
    with pytest.raises(ValueError, match="the weights do not fit a test") as error:
        check_fit(expected, {"a.weight": torch.zeros(3, 2), "c": torch.zeros(1)}, "a test", cure=" (find them)")
    assert str(error.value).splitlines()[1:] == [
        "2 missing (find them):",
        "  b.{0-1}.bias",
        "1 unexpected:",
        "  c",
        "1 of another shape:",
        "  a.weight: (3, 2), the model has (2, 3)",
    ]
