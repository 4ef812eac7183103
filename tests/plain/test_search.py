"""Cases drawn at random, of a family and by a seed. What a search finds: `tests/check/test_search.py`."""

import os
import subprocess
import sys

import numpy as np
import pytest

from multiloss.check import Cell, TargetError, families, search


def test_the_same_seed_draws_the_same_in_every_process(tmp_path):
    """hypothesis draws constants of the modules at hand, but not here."""
    (tmp_path / "other.py").write_text("NUMBERS = [0.8125, 0.6875, 12345.0, 2345, 3456, 4567]")
    program = (
        "import hashlib, sys; from multiloss.check import families, search\n"
        "for name in sys.argv[1:]: __import__(name)\n"
        "for family in families.FAMILIES:\n"
        "    drawn = hashlib.sha256()\n"
        "    keep = lambda case: drawn.update(case.y.tobytes() + case.x.tobytes()) or []\n"
        "    search.smallest(search.strategy(family, False), keep, 200, 3, None)\n"
        "    print(family, drawn.hexdigest())"
    )
    # Not as an installed module, whose constants hypothesis would not look at.
    there = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    first, second = (
        subprocess.check_output([sys.executable, "-c", program, *others], env=there, text=True).splitlines()
        for others in ([], ["other"])
    )
    assert first == second
    assert len(set(first)) == len(families.FAMILIES)


@pytest.mark.parametrize("family", families.FAMILIES)
@pytest.mark.parametrize("logits", [False, True])
def test_what_is_drawn_is_of_the_family(family, logits):
    """As the first case of the family is, of rank, dtype and range."""
    model = families.family(family, 0, logits)[0]
    seen = []

    def failing(case):
        seen.append(case)
        assert (case.y.dtype, case.x.dtype) == (model.y.dtype, model.x.dtype)
        assert (case.y.ndim, case.x.ndim) == (model.y.ndim, model.x.ndim)
        assert len(case.y) == len(case.x)
        if family in ("masks", "one-hot", "integer-labels") and not logits:
            assert 0 <= case.x.min() <= case.x.max() <= 1
        if family == "positive":
            assert case.y.min() >= 0
            assert case.x.min() > 0
        if family in ("one-hot", "integer-labels") and not logits:
            np.testing.assert_allclose(case.x.sum(-1), 1, atol=1e-6)  # of three float32
        return []

    assert search.smallest(search.strategy(family, logits), failing, 200, 0, None).case is None
    assert {len(case.x) for case in seen} == {1, 2, 3}
    assert len({case.x.tobytes() for case in seen}) > 100


def test_what_cannot_be_drawn_is_refused(monkeypatch):
    with pytest.raises(TargetError, match="`search` needs a family, a specification or a function of a seed"):
        search.strategy("batch.npz", False)
    monkeypatch.setitem(sys.modules, "hypothesis.strategies", None)
    with pytest.raises(TargetError, match=r'`search` needs hypothesis: pip install "multiloss\[search\]"'):
        search.strategy("regression", False)


def test_after_a_lost_worker_nothing_is_tried():
    tried = []

    def lost(case):
        tried.append(case)
        return [Cell("value", "torch", "not checked")]

    found = search.smallest(search.strategy("regression", False), lost, 400, 0, None)
    assert len(tried) == found.tried == 1
    assert [cell.status for cell in found.cells] == ["not checked"]
