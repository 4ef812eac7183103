"""The README's Python runs, on every backend that it is for, and its commands are those that CI runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
BACKENDS = ("tensorflow", "jax", "torch")
# A block is for every backend unless it names its own.
RUNS = [
    pytest.param(block, backend, id=f"{block.strip().splitlines()[-1][:40]}-{backend}")
    for block in BLOCKS
    for backend in BACKENDS
    if "KERAS_BACKEND" not in block or f'"KERAS_BACKEND"] = "{backend}"' in block
]


@pytest.mark.parametrize(("block", "backend"), RUNS)
def test_python_of_the_readme_runs(block, backend, tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_there_is_a_loop_for_each_framework():
    assert sum("KERAS_BACKEND" in block for block in BLOCKS) == len(BACKENDS)
    assert len(RUNS) == len(BACKENDS) * (len(BLOCKS) - len(BACKENDS) + 1)


def test_ci_runs_the_readmes_own_test_command():
    (command,) = re.findall(r"^python -m pip install tox && tox$", README, flags=re.MULTILINE)
    assert command in (ROOT / ".ci/run").read_text().splitlines()


def test_the_main_job_is_one_command():
    assert re.search(r"^python -m pip install .* && .*python examples/user_embeddings.py$", README, flags=re.MULTILINE)


def test_links_and_pictures_exist():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert target.startswith("https://") or (ROOT / target).exists(), target
