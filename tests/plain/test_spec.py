"""Batches from a specification: what each kind draws, which batches are made, and what is refused, with its place."""

import numpy as np
import pytest

from multiloss.check import TargetError, search, spec, tree


def named(text, seed=0):
    return {case.name: case for case in spec.cases(text, seed)}


def test_classes_by_labels():
    cases = named("y: int[B, 8] in 1..3, x: prob[B, 8, 3]")
    assert list(cases) == [
        "random",
        "tied values",
        "ends of the range",
        "y_true at the low end",
        "y_true at the high end",
        "many rows",
        "duplicated rows",
        "batch of 2",
        "batch of 1",
        "batch of 0",
    ]
    for case in cases.values():
        assert (case.y.shape, case.x.shape) == ((case.rows, 8), (case.rows, 8, 3))
        assert (case.y.dtype, case.x.dtype) == (np.int32, np.float32)
        np.testing.assert_allclose(case.x.sum(-1), 1, atol=1e-6)  # of three float32
        assert case.bounds == [(0, 1)]
        assert case.plain is (case.name == "random")
        assert case.optional is case.large is (case.name == "many rows")
    assert [cases[name].rows for name in ("random", "batch of 2", "batch of 0")] == [6, 2, 0]
    assert set(cases["random"].y.ravel()) == {1, 2, 3}
    assert set(cases["tied values"].x.ravel()) == {np.float32(1 / 3)}
    assert set(cases["ends of the range"].x.ravel()) == {0, 1}
    assert len({row.tobytes() for row in cases["ends of the range"].x.reshape(-1, 3)}) == 3
    assert set(cases["y_true at the low end"].y.ravel()) == {1}
    assert set(cases["y_true at the high end"].y.ravel()) == {3}
    np.testing.assert_array_equal(cases["duplicated rows"].x[:3], cases["duplicated rows"].x[3:])
    assert cases["many rows"].rows == 2730  # the least: of 24 numbers each, more than 65504
    again = named("y_true: int [ B,8 ] in 1 .. 3 ,y_pred:prob[B,8,3]")
    assert all(np.array_equal(case.x, again[name].x) for name, case in cases.items())
    assert not np.array_equal(cases["random"].x, named("y: int[B, 8] in 1..3, x: prob[B, 8, 3]", 1)["random"].x)


def test_dicts_and_tuples():
    cases = named("y.mask: bool[B, 8], y.labels: int[B, 8] in 0..4, x.0: prob[B], x.1: float[B, 2] in -1..1.5")
    assert {'y_true["labels"] at the low end', 'y_true["mask"] at the high end'} <= set(cases)
    plain = cases["random"]
    assert list(plain.y) == ["labels", "mask"]  # sorted
    assert plain.y["mask"].dtype == np.bool_
    assert [part.shape for part in plain.x] == [(6,), (6, 2)]
    assert plain.bounds == [(0, 1), (-1, 1.5)]
    assert plain.x[1].min() >= -1
    assert plain.x[1].max() <= 1.5
    assert set(cases["ends of the range"].x[1].ravel()) == {-1, 1.5}
    assert set(cases["ends of the range"].x[0]) == {0, 1}
    assert not cases['y_true["mask"] at the low end'].y["mask"].any()
    assert cases['y_true["mask"] at the low end'].y["labels"].any()


def test_a_fixed_number_of_rows():
    cases = named("y: ids[4], x: unit[4, 16]")
    assert {case.rows for case in cases.values()} == {4}
    assert not any(case.large for case in cases.values())


@pytest.mark.parametrize(
    ("kind", "values", "ends"),
    [
        ("mask", {0, 1}, {0, 1}),
        ("sign", {-1, 1}, {-1, 1}),
        ("onehot", {0, 1}, {0, 1}),
        ("logit", None, {-1e4, 1e4}),
        ("float", None, {-1e4, 1e4}),
        ("positive", None, {np.float32(1e-4), 1e4}),
        ("unit", None, {-1, 0, 1}),
    ],
)
def test_kinds_of_predictions(kind, values, ends):
    cases = named(f"y: ids[B], x: {kind}[B, 3]")
    assert "many rows" not in cases  # compared in pairs
    x = cases["random"].x
    assert set(x.ravel()) == values if values else len(set(x.ravel())) == x.size
    assert set(cases["ends of the range"].x.ravel()) == ends
    assert len(set(cases["tied values"].x.ravel())) <= 3
    if kind == "positive":
        assert min(case.x.min() for case in cases.values() if case.rows) > 0
        assert cases["random"].bounds == [(0, np.inf)]
    if kind == "onehot":
        assert (x.sum(-1) == 1).all()
    if kind == "unit":
        for name in ("random", "tied values", "ends of the range"):
            np.testing.assert_allclose(np.linalg.norm(cases[name].x, axis=-1), 1, atol=1e-6)  # of three float32


def test_ids_repeat():
    cases = named("y: ids[B], x: float[B, 4]")
    assert sorted(cases["random"].y) == [0, 0, 1, 1, 2, 2]
    assert len(set(cases["y_true all the same"].y)) == 1
    assert len(set(cases["y_true all different"].y)) == 6


def test_probabilities_of_one_class():
    for shape in ("B", "B, 1", "B, 2, 2, 1"):
        x = named(f"y: mask[{shape}], x: prob[{shape}]")["random"].x
        assert 0 < x.min() < x.max() < 1


@pytest.mark.parametrize(
    ("text", "expected", "marked"),
    [
        ("y: itn[B], x: prob[B]", "a kind (int, ids, bool, ", "itn"),
        ("y: int[B], x: prob[B]", "`in LOW..HIGH` after `int[...]`", ", x"),
        ("y: int[B] in 3..0, x: prob[B]", "LOW below HIGH", "in 3"),
        ("y: int[B] in 0..1.5, x: prob[B]", "whole for `int`", "in 0"),
        ("y: float[B] in 0..1e400, x: prob[B]", "`in LOW..HIGH`", "in 0"),
        ("y: float[B] in 1..1, x: prob[B]", "LOW below HIGH", "in 1"),
        ("y: int[B] in zero, x: prob[B]", "`LOW..HIGH` after `in`, such as `0..3`,", "zero"),
        ("y: mask[B] in 0..1, x: prob[B]", "only after `int` or `float`", "in 0"),
        ("y: ids[B] x: prob[B]", "`,` or the end", "x"),
        ("y ids[B], x: prob[B]", "`:`", "ids"),
        ("y: ids B, x: prob[B]", "`[`, and dimensions such as `B, 8`,", "B,"),
        ("y: ids[B, x: prob[B]", "`B`, or an integer above 0 after it,", "x"),
        ("y: ids[B; x: prob[B]", "`,` or `]`", ";"),
        ("y: ids[B, B], x: prob[B]", "an integer above 0", "B]"),
        ("y: ids[B, 0], x: prob[B]", "`B`, or an integer above 0 after it,", "0"),
        ("y: ids[B], x: prob[4]", "as many rows as in the entries before", "4"),
        ("y: ids[B], x: bool[B]", "real predictions (float, ", "bool"),
        ("y: unit[B], x: prob[B]", "an axis after `B` for `unit`", "B]"),
        ("x: prob[B]", "an entry for `y`", ""),
        ("y: ids[B], ", "`y`, `y_true`, `x` or `y_pred`, and `.key` or `.0` for a part,", ""),
        ("labels: ids[B]", "`y`, `y_true`, `x` or `y_pred`", "labels"),
        ("y: ids[B], y.a: ids[B], x: prob[B]", "one entry for each array", "y.a"),
        ("y.a.b: ids[B], y.a: ids[B], x: prob[B]", "one entry for each array", "y.a: "),
        ("y.a: ids[B], y.a.b: ids[B], x: prob[B]", "one entry for each array", "y.a.b"),
    ],
)
def test_what_is_wrong_is_shown_at_its_place(text, expected, marked):
    with pytest.raises(TargetError) as caught:
        spec.parse(text)
    first, shown, mark = str(caught.value).split("\n")
    assert first.startswith("`inputs` must have ")
    assert expected in first
    assert shown == f"    {text}"
    place = mark.index("^") - 4
    assert text[place:].startswith(marked) if marked else place == len(text)


def test_what_is_a_specification():
    for text in ("y: ids[B]", "y:ids[B]", "labels : x", "y.a: mask[B]"):
        assert spec.is_spec(text)
    for text in ("made.py:make", "my.module:make([1, 2])", "y:make", "masks", "batch.npz"):
        assert not spec.is_spec(text)


@pytest.mark.parametrize(
    ("text", "name", "rows"),
    [
        ("y.a: ids[B], y.b: mask[B, 2], x: float[B, 3]", "drawn", {1, 2, 3}),
        ("y.a: ids[4], y.b: mask[4, 2], x: float[4, 3]", "drawn, of all rows", {4}),
    ],
)
def test_specifications_are_searched(text, name, rows):
    seen = []

    def failing(case):
        seen.append(case)
        return []

    search.smallest(search.strategy(text, False), failing, 100, 0, None)
    assert {case.name for case in seen} == {name}
    assert {case.rows for case in seen} == rows
    assert len({case.x.tobytes() for case in seen}) > 50
    assert tree.names(seen[0].y) == ['y_true["a"]', 'y_true["b"]']
    with pytest.raises(TargetError, match="a kind"):
        search.strategy("y: none[B]", False)
