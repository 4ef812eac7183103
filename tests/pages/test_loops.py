"""Code of the pages that names its backend runs there, in a process of its own."""

import os
import subprocess
import sys

import pytest
from documents import NAMED, PAGES, blocks

BACKEND = os.environ["KERAS_BACKEND"]
LOOPS = [
    pytest.param(block, id=page)
    for page in PAGES
    for block in blocks(page, "python")
    if (named := NAMED.search(block)) and named[1] == BACKEND
]


@pytest.mark.full
@pytest.mark.parametrize("block", LOOPS)
def test_code_of_a_backend_runs(block, tmp_path):
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_there_is_some():
    assert LOOPS
