"""The code of README and site runs as it stands, on torch: the blocks of a page in order."""

import contextlib
import re
import shlex

import pytest
from documents import NAMED, PAGES, ROOT, blocks

from multiloss.check import cli

# That page has a test of its own, which writes the files that it shows.
ELSEWHERE = {"docs/ci.md"}
WITH_CODE = [page for page in PAGES if page not in ELSEWHERE and blocks(page, "python")]


@pytest.mark.parametrize("page", WITH_CODE)
def test_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for number, block in enumerate(blocks(page, "python")):
        if NAMED.search(block) is None:  # `test_loops.py` runs the others
            exec(compile(block, f"{page}, block {number}", "exec"), names)


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_options_and_files_that_there_are(page):
    for line in "\n".join(blocks(page, "bash", "sh")).splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["multiloss"]:
            with contextlib.suppress(SystemExit) if "--help" in words else contextlib.nullcontext():
                cli._parser().parse_args(words[1:])
        for path in re.findall(r"(?:examples|benchmarks|docs)/[\w/]+\.py", line):
            assert (ROOT / path).is_file(), line
