"""The Python of the README and of the first pages runs on every backend."""

import json
import os
import subprocess
import sys

import pytest
from documents import blocks

PAGES = ("README.md", "docs/start/from_numpy.md", "docs/start/segmentation.md")
# In one process, since to import a framework takes longer than most; the blocks of a page go on from each other.
PROGRAM = """
import json, sys
for page, blocks in json.load(sys.stdin).items():
    names = {"__name__": "__main__"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
    print(page)
"""


# In the default tier, `tests/pages` runs them on torch.
@pytest.mark.full
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_python_of_the_first_pages_runs(backend, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps({page: blocks(page, "python") for page in PAGES}),
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert {*PAGES} <= {*done.stdout.splitlines()}
