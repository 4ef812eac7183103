"""Turns what the checks found into the cells of the report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from multiloss.check import checks, compare
from multiloss.check.checks.base import Check, Finding, Findings, Replies, Request, Run, Scale, flat
from multiloss.check.compare import Difference
from multiloss.check.pool import Reply
from multiloss.check.report import KINDS, Cell


def scale_of(run: Run) -> Scale:
    """Return the typical size of a loss's values and gradients."""
    results = [
        result
        for case in run.cases
        for backend in run.described
        if case.size and (result := run.value_of(backend, case)) is not None
    ]
    values = [compare.largest(result["value"]) for result in results]
    gradients = [compare.largest(flat(result["gradient"])) for result in results if result["gradient"] is not None]
    value, gradient = (float(np.median(sizes)) if sizes else 1.0 for sizes in (values, gradients))
    # Most cases may have a gradient of 0.
    plain = [
        compare.largest(flat(result["gradient"]))
        for backend in run.described
        if (result := run.value_of(backend, run.plain)) is not None and result["gradient"] is not None
    ]
    return Scale(value, max(gradient, *plain, 0.0))


def judged(
    run: Run,
    names: Sequence[str],
    requests: Mapping[str, Mapping[str, Mapping[Any, Request]]],
    replies: Mapping[str, Mapping[str, Reply]],
    table: Mapping[str, Check] = checks.ALL,
) -> dict[tuple[str, str], Findings | str]:
    """Return what each check found on each backend, or why it does not apply.

    Args:
        run: the run.
        names: of the checks.
        requests: backend -> check -> the check's requests.
        replies: backend -> key of a request -> its reply.
        table: the checks by name.
    """
    results: dict[tuple[str, str], Findings | str] = {}
    for name in names:
        answers = {b: Replies(requests[b].get(name, {}), replies[b]) for b in run.described}
        for backend in run.described:
            check = table[name]
            if why := check.why_not(run, backend):
                results[name, backend] = why
                continue
            results[name, backend] = found = Findings()
            check.verdict(run, backend, answers, found)
    return results


def severity(finding: Finding) -> tuple[int, bool, float, int]:
    """Return what sorts failures: the worst first, but those of batches that can be shown before others."""
    ratio = finding.difference.ratio if finding.difference else 0.0
    size = finding.batch.size if finding.batch else 0
    return KINDS.index(finding.kind), size > _SHOWN, -ratio, size


def cell_of(check: str, backend: str, found: Findings | str, line: str) -> Cell:
    """Return the cell of a check on a backend; `line` reproduces a failure."""
    if isinstance(found, str):
        return Cell(check, backend, "not applicable", found)
    failures = sorted((finding for finding in found.all if finding.failed), key=severity)
    numbers: dict[str, Difference] = {}  # of a case, the worst
    for finding in found.all:
        if (difference := finding.difference) is not None:
            other = numbers.setdefault(finding.case, difference)
            numbers[finding.case] = max(difference, other, key=lambda one: one.ratio)
    errors = {case: difference.ratio for case, difference in numbers.items()}
    undecided = "; ".join(f"{case!r}: {why}" for case, why in found.missing.items())
    if failures:
        worst = failures[0]
        crashed = [f for f in failures[1:] if f.kind == "crash" and worst.kind != "crash"]
        detail = worst.detail + (f". It also raises at {crashed[0].case!r}: {crashed[0].detail}" if crashed else "")
        error, tolerance = worst.difference or (None, None)
        batch = worst.batch.code if worst.batch is not None and worst.batch.size <= _SHOWN else ""
        return Cell(
            check, backend, "fail", detail, error, tolerance, worst.case, line, errors, kind=worst.kind, batch=batch
        )
    if not found.all and (check != "runs" or found.missing):
        if found.note and not found.missing:
            return Cell(check, backend, "not applicable", found.note)
        return Cell(check, backend, "not checked", undecided or "it could not be run: see the other rows")
    most = max(numbers, key=lambda case: numbers[case].ratio, default=None)
    detail = ". ".join(filter(None, [found.note, f"undecided at {undecided}" if undecided else ""]))
    error, tolerance = (None, None) if most is None else numbers[most]
    return Cell(check, backend, "pass", detail, error, tolerance, most, None, errors)


_SHOWN = 64  # numbers of predictions that are still shown as arrays
