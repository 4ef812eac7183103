"""What is checked, as a text that another process can import. Losses as targets: `tests/check/test_check.py`."""

import pytest

from multiloss.check import TargetError, targets


def in_a_module():
    pass


def test_targets_are_modules_files_calls_and_objects(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def loss(y, x, *, factor): return factor\ndef make(factor): return lambda y, x: factor\n")
    assert targets.resolve(f"{path}:make(3)")(0, 0) == 3
    assert targets.resolve(f"{path}:loss(factor=4)")(0, 0) == 4
    assert targets.resolve("multiloss.oracles:dice") is targets.resolve(
        targets.text_of(targets.resolve("multiloss.oracles:dice"))
    )
    assert targets.text_of(in_a_module).endswith("test_targets.py:in_a_module")
    with pytest.raises(TargetError, match="another process has to import it"):
        targets.text_of(lambda y, x: x)
