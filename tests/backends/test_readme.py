"""The README's Python runs, on every backend that it is for."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
BACKENDS = ("tensorflow", "jax", "torch")
# Each block by itself, but in one process, since to import a framework takes longer than most of them.
PROGRAM = """
import json, sys
for number, block in enumerate(json.load(sys.stdin)):
    exec(compile(block, f"block {number} of {len(block)} characters", "exec"), {"__name__": "__main__"})
    print(number)
"""


def of_backend(backend):
    """A block is for every backend unless it names its own."""
    return [block for block in BLOCKS if "KERAS_BACKEND" not in block or f'"KERAS_BACKEND"] = "{backend}"' in block]


# That of the README's first command in the default tier.
@pytest.mark.parametrize(
    "backend", ["jax", *(pytest.param(backend, marks=pytest.mark.full) for backend in BACKENDS if backend != "jax")]
)
def test_python_of_the_readme_runs(backend, tmp_path):
    blocks = of_backend(backend)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(blocks),
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert {str(number) for number in range(len(blocks))} <= set(done.stdout.splitlines())


def test_there_is_a_loop_for_each_framework():
    assert sum("KERAS_BACKEND" in block for block in BLOCKS) == len(BACKENDS)
    assert {len(of_backend(backend)) for backend in BACKENDS} == {len(BLOCKS) - len(BACKENDS) + 1}
