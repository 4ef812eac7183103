"""The page on continuous integration does as it stands."""

import functools
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from multiloss.check import Workers, asserting, check_loss, cli, compare_training

PAGE = Path(__file__).parents[2] / "docs" / "ci.md"


@pytest.mark.full
def test_the_files_and_commands_of_the_page_hold_a_project_together(tmp_path, monkeypatch):
    blocks = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert [name for name, _ in blocks] == ["my_project.py", "tests/test_backends.py"]
    (tmp_path / "tests").mkdir()
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("multiloss ") and "--record" in line]
    with Workers() as workers:  # in this folder
        for name, function in (("check_loss", check_loss), ("compare_training", compare_training)):
            monkeypatch.setattr(cli, name, functools.partial(function, workers=workers))
        assert [cli.main(shlex.split(line)[1:]) for line in lines] == [0, 0]
        # JAX takes twice as long as both, and other tests have it.
        monkeypatch.setattr(asserting, "backends", ["tensorflow", "torch"])
        monkeypatch.setattr(asserting, "_workers", workers)
        spec = importlib.util.spec_from_file_location("page", "tests/test_backends.py")
        tests = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tests)
        ran = [test() for name, test in vars(tests).items() if name.startswith("test_")]
    assert len(ran) == 4
