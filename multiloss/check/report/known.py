"""Known failures: their list, and the cells that it expects to fail."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from multiloss.check.report.cells import Cell

BACKENDS = ("tensorflow", "jax", "torch", "numpy", "openvino")


def read_known(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read a list of known failures, for `Report.with_known`.

    Each line is `CHECK` or `CHECK BACKEND`; without a backend, the check is expected to fail on at least one. `#`
    starts a comment.

    Returns:
        The place of every entry: `{"unknown_batch jax": "known.txt:3"}`.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if the file is not text, a line names no check, or a line is repeated.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8. Received: {error.reason}") from error
    known: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        entry = " ".join(line.partition("#")[0].split())
        if entry in BACKENDS:
            raise ValueError(f"{path}:{number}: expected `CHECK [BACKEND]`. Received no check: {entry!r}")
        if entry in known:
            raise ValueError(f"{path}:{number}: {entry!r} is already listed in {known[entry]}")
        if entry:
            known[entry] = f"{path}:{number}"
    return known


def marked(cells: Sequence[Cell], columns: Collection[str], known: Mapping[str, str]) -> tuple[Cell, ...]:
    """Return the cells with known failures marked, as `Report.with_known` describes.

    Args:
        cells: the cells of a report.
        columns: its backends.
        known: the result of `read_known`.
    """
    changed = {}
    for entry, where in known.items():
        check, _, backend = entry.rpartition(" ")
        if backend not in {*columns, *BACKENDS}:
            check, backend = entry, ""
        row = [cell for cell in cells if cell.check == check]
        if not row:
            names = ", ".join(dict.fromkeys(cell.check for cell in cells))
            raise ValueError(f"{where}: expected `CHECK [BACKEND]`, a check of: {names}. Received: {entry!r}")
        listed = [cell for cell in row if backend in ("", cell.backend)]
        failing = [cell for cell in listed if cell.status in ("fail", "known")]
        for cell in failing:
            changed[check, cell.backend] = replace(cell, status="known")
        for cell in listed:
            if cell.status == "pass" and not failing:
                detail = f"Passes, but is listed as a known failure in {where}: remove the line."
                changed[check, cell.backend] = replace(cell, status="unexpected pass", detail=detail)
    return tuple(changed.get((cell.check, cell.backend), cell) for cell in cells)
