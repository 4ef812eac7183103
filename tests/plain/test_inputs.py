"""The batches that a loss is tried on: of files and of functions, of families; and what is no batch."""

import re

import numpy as np
import pytest

from multiloss.check import TargetError, families, inputs


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
    ],
)
def test_families_are_guessed_from_names(target, family):
    assert families.guess(target) == family
