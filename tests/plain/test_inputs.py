"""The batches that a loss is tried on: of files and of functions, of families; and what is no batch."""

import re
from collections import namedtuple

import numpy as np
import pytest

from multiloss.check import TargetError, families, inputs, tree


def saved(path, **arrays):
    np.savez(path, **arrays)
    return [case.name for case in inputs.load(str(path), 0)]


def test_inputs_of_a_file(tmp_path):
    y, x = np.random.default_rng(0).normal(size=(2, 4, 2)).astype(np.float32)
    assert saved(tmp_path / "one.npz", y_true=y, y_pred=x) == ["batch"]
    assert saved(tmp_path / "two.npz", a_y_true=y, a_y_pred=x, b_y_true=y, b_y_pred=x) == ["a", "b"]
    with pytest.raises(
        TargetError, match=r"must have float `y_pred` and numeric .* y_true: float32 \[\], y_pred: float32 \[\]"
    ):
        saved(tmp_path / "scalar.npz", y_true=np.float32(1), y_pred=np.float32(1))
    with pytest.raises(TargetError, match=r"case .batch. of .* must be a pair"):
        saved(tmp_path / "half.npz", y_true=y)
    with pytest.raises(TargetError, match="must have float `y_pred` and numeric `y_true` with as many rows"):
        saved(tmp_path / "ints.npz", y_true=y, y_pred=y.astype(int))


def test_inputs_of_a_function(tmp_path):
    (tmp_path / "made.py").write_text(
        "import numpy as np\ndef make(seed): return {'x': (np.ones(3), np.full(3, seed, float)), 'y': ([1], [2.0])}"
    )
    first, second = inputs.load(f"{tmp_path / 'made.py'}:make", 7)
    assert (first.name, first.plain, first.x.tolist()) == ("x", True, [7, 7, 7])
    assert (second.name, second.plain, second.y.tolist(), second.x.dtype) == ("y", False, [1], np.float32)


def test_structures_of_a_file(tmp_path):
    y, mask, x = np.ones((4, 2), np.int32), np.ones((4, 2), bool), np.ones((4, 2), np.float64)
    parts = {"y_true.mask": mask, "y_true.labels": y, "y_pred.0": x, "y_pred.1.a": x[:, 0]}
    saved(tmp_path / "one.npz", **parts, **{f"more_{name}": array for name, array in parts.items()}, by_true=x)
    cases = inputs.load(str(tmp_path / "one.npz"), 0)
    assert [case.name for case in cases] == ["batch", "more"]
    for case in cases:
        assert list(case.y) == ["labels", "mask"]  # sorted
        assert isinstance(case.x, tuple)
        assert [leaf.shape for leaf in tree.leaves(case.x)] == [(4, 2), (4,)]
        assert {leaf.dtype for leaf in tree.leaves(case.x)} == {np.dtype(np.float32)}
        assert (case.rows, case.size) == (4, 12)
    for beside in ("y_true", "y_true.mask.a"):
        with pytest.raises(TargetError, match=r"both an array and parts of it: `[\w.]+` beside the whole"):
            saved(tmp_path / "both.npz", **parts, **{beside: y})


def test_structures_of_a_function(tmp_path):
    """Lists of numbers are arrays; what holds an array or a dict is a structure. Labels may have another rank."""
    (tmp_path / "made.py").write_text(
        "import numpy as np\n"
        "x = np.ones((2, 3))\n"
        "def make(seed): return {\n"
        "    'dict': ({'b': [1, 0], 'a': [[True], [False]]}, (x, x[:, :2])),\n"
        "    'list': ([x, x[:, 0]], x),\n"
        "    'nested': (({'a': [1.0, 2.0]},), {'a': [[1.0, 1.0], [2.0, 2.0]]}),\n"
        "    'array': (([1, 2], [3, 4]), [[1.0, 2.0], [3.0, 4.0]])}\n"
        "def rows(seed): return {'rows': ({'a': [1, 2, 3], 'b': [1, 2]}, x)}\n"
        "def whole(seed): return {'whole': (x, (x, x.astype(int)))}\n"
        "def none(seed): return {'none': ({}, x)}\n"
        "def keys(seed): return {'keys': ({1: x, 'a': x}, x)}\n"
    )
    cases = {case.name: case for case in inputs.load(f"{tmp_path / 'made.py'}:make", 0)}
    assert tree.names(cases["dict"].y) == ['y_true["a"]', 'y_true["b"]']
    assert [leaf.shape for leaf in tree.leaves(cases["dict"].y)] == [(2, 1), (2,)]
    assert tree.names(cases["dict"].x, "y_pred") == ["y_pred[0]", "y_pred[1]"]
    assert list(cases["dict"].y) == ["a", "b"]  # sorted
    assert isinstance(cases["list"].y, list)
    assert cases["list"].y[0].dtype == np.float64
    assert tree.names(cases["nested"].y) == ['y_true[0]["a"]']
    assert (cases["array"].y.tolist(), cases["array"].x.tolist()) == ([[1, 2], [3, 4]], [[1, 2], [3, 4]])
    for name, received in {
        "rows": r'y_true\["a"\]: int64 \[3\], y_true\["b"\]: int64 \[2\], y_pred: float64 \[2, 3\]',
        "whole": r"y_true: .*, y_pred\[0\]: float64 \[2, 3\], y_pred\[1\]: int64 \[2, 3\]",
        "none": r", y_pred: float64 \[2, 3\]",
    }.items():
        with pytest.raises(TargetError, match=f"case '{name}' .* with as many rows. Received: {received}$"):
            inputs.load(f"{tmp_path / 'made.py'}:{name}", 0)
    with pytest.raises(TargetError, match=r"case 'keys' of .* must consist of arrays: '<' not supported"):
        inputs.load(f"{tmp_path / 'made.py'}:keys", 0)


def test_trees_keep_their_form():
    """The order is that of `keras.tree.flatten`: keys of a dict sorted, whatever their order."""
    made = {"b": (np.ones(2), [np.zeros(3)]), "a": np.full(4, 2.0)}
    assert [len(leaf) for leaf in tree.leaves(made)] == [4, 2, 3]
    assert tree.names(made) == ['y_true["a"]', 'y_true["b"][0]', 'y_true["b"][1][0]']
    other = tree.map(lambda leaf: leaf[:1] + 1, made)
    assert list(other) == ["b", "a"]
    assert isinstance(other["b"], tuple)
    assert isinstance(other["b"][1], list)
    assert [leaf.tolist() for leaf in tree.leaves(other)] == [[3], [2], [1]]
    assert tree.like(0, [5]) == 5
    assert tree.names(np.ones(2), "y_pred") == ["y_pred"]
    point = namedtuple("Point", "x y")
    assert tree.like(point(1, 2), [3, 4]) == point(3, 4)


def test_a_case_as_code():
    """Which makes the same case, special values and empty arrays included."""
    y = {"a": np.array([True, False]), "b": (np.zeros((2, 0, 3), np.int32),)}
    x = [np.array([[np.nan, 0.1], [-np.inf, 1e30]], np.float32)]
    case = inputs.Case("one", y, x, low=(0.0,), high=1.0)
    made = {"np": np}
    exec(case.code, made)
    for part, name in ((y, "y_true"), (x, "y_pred")):
        assert tree.names(made[name]) == tree.names(part)
        for leaf, again in zip(tree.leaves(part), tree.leaves(made[name]), strict=True):
            assert (leaf.dtype, leaf.shape) == (again.dtype, again.shape)
            np.testing.assert_array_equal(leaf, again)
    assert case.described == 'y_true["a"]: bool [2], y_true["b"][0]: int32 [2, 0, 3], y_pred[0]: float32 [2, 2]'
    assert case.bounds == [(0.0, 1.0)]
    assert tree.leaves(case.take(slice(1, 2)).x)[0][0, 1] == np.float32(1e30)
    assert case.take(np.array([1, 1, 0])).y["a"].tolist() == [False, False, True]
    assert not case.large
    assert case._replace(x=np.zeros((2, 32_753), np.float32)).large


@pytest.mark.parametrize("kind", ["empty", "truncated", "corrupt", "npy"])
def test_files_that_are_no_npz_are_refused(kind, tmp_path):
    path = tmp_path / "batch.npz"
    np.savez_compressed(path, y_true=np.ones((9, 9)), y_pred=np.ones((9, 9)))
    whole = path.read_bytes()
    middle = len(whole) // 4
    bad = {"empty": b"", "truncated": whole[:-30], "corrupt": whole[:middle] + b"\xff" * 9 + whole[middle + 9 :]}
    np.save(tmp_path / "batch.npy", np.ones(3))
    path.write_bytes(bad[kind] if kind in bad else (tmp_path / "batch.npy").read_bytes())
    with pytest.raises(TargetError, match=r"batch\.npz is not a readable \.npz file: \w+: "):
        inputs.load(str(path), 0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def f(seed): raise KeyError('x')", "must take a seed and return cases. With 0 it raises KeyError: 'x'"),
        ("def f(): return {}", "With 0 it raises TypeError: f() takes 0 positional arguments but 1 was given"),
        (
            "def f(seed): return {'a': ([[1], [1, 2]], [1.0])}",
            "case 'a' of {} must consist of arrays: setting an array",
        ),
        ("import sys; sys.exit(0)", "could not be imported: SystemExit: 0"),
    ],
)
def test_functions_of_inputs_that_fail_are_refused(body, message, tmp_path):
    path = tmp_path / "made.py"
    path.write_text(body)
    with pytest.raises(TargetError, match=re.escape(message.format(f"{path}:f"))):
        inputs.load(f"{path}:f", 0)


def test_families_are_hard_and_repeatable():
    for family in families.FAMILIES:
        for logits in (False, True):
            cases = families.family(family, 3, logits)
            assert {len(case.x) for case in cases} >= {0, 1, 2}
            assert any(case.large for case in cases)
            assert [case.name for case in cases if case.plain] == ["random"]
            for case, again in zip(cases, families.family(family, 3, logits), strict=True):
                np.testing.assert_array_equal(case.x, again.x)
                np.testing.assert_array_equal(case.y, again.y)
                assert case.x.dtype == np.float32
                assert len(case.x) == len(case.y)
            optional = {case.name for case in cases if case.optional}
            assert optional == ({"rank 3"} if family in ("one-hot", "integer-labels", "regression") else set())
            low, high = cases[0].bounds[0]
            assert all(((low <= case.x) & (case.x <= high)).all() for case in cases)
            assert (high == 1) is (family in families.PROBABILITIES and not logits)
    assert (families.family("masks", 3)[0].x != families.family("masks", 4)[0].x).any()


@pytest.mark.parametrize(
    ("target", "family"),
    [
        ("keras.losses:Dice", "masks"),
        ("keras.losses:BinaryFocalCrossentropy", "masks"),
        ("keras.losses:CategoricalFocalCrossentropy", "one-hot"),
        ("keras.losses:SparseCategoricalCrossentropy", "integer-labels"),
        ("keras.losses:MeanSquaredError", "regression"),
        ("multiloss:PairwiseUserLoss(margin=1.0)", "labels-embeddings"),
        ("multiloss:dice_loss(smooth=1)", "masks"),
        ("keras.losses:CategoricalGeneralizedCrossEntropy", "integer-labels"),
        ("keras.losses:CategoricalHinge", "one-hot"),
        ("keras.losses:Circle", "labels-embeddings"),
        ("keras.losses:KLDivergence", "one-hot"),
        ("losses.py:kl_div", "one-hot"),
        ("losses.py:weighted_cross_entropy", "one-hot"),
        ("keras.losses:SquaredHinge", "sign-labels"),
        ("keras.losses:Poisson", "positive"),
        ("keras.losses:MeanSquaredLogarithmicError", "positive"),
        ("keras.losses:LogCosh", "regression"),
        ("keras.losses:CosineSimilarity", "regression"),
        ("losses.py:IoULoss", "masks"),
        ("losses.py:previous_loss", "regression"),
        ("losses.py:gamma_nll", "y: positive[B, 3], x: positive[B, 3]"),
        ("keras_rs.losses:PairwiseHingeLoss", "y: int[B, 8] in 0..4, x: float[B, 8]"),
        ("keras_rs.losses:ListMLELoss", "y: int[B, 8] in 0..4, x: float[B, 8]"),
        ("keras.losses:CTC", "y: int[B, 3] in 1..3, x: logit[B, 7, 4]"),
    ],
)
def test_families_are_guessed_from_names(target, family):
    assert families.guess(target) == family
    assert families.batches(family, 0)[0].plain


def test_inputs_of_every_kind(tmp_path):
    np.savez(tmp_path / "one.npz", y_true=np.ones(2), y_pred=np.ones(2))
    (tmp_path / "made.py").write_text("def make(seed): return {'made': ([1], [2.0])}")
    for text, name in {
        "masks": "random",
        "y: ids[B], x: float[B, 2]": "random",
        str(tmp_path / "one.npz"): "batch",
        f"{tmp_path / 'made.py'}:make": "made",
    }.items():
        assert families.batches(text, 0)[0].name == name
    assert families.batches("masks", 0, logits=True)[0].x.min() < 0
    with pytest.raises(TargetError, match=r"must be one of labels-embeddings, .* Received: 'one_hot'"):
        families.batches("one_hot", 0)
