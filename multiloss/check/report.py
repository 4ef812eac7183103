"""The results of the checks: as text for a terminal, as JSON with a versioned schema, and as one HTML page.

Standard library only: the process that reports imports neither Keras nor a backend. All output comes from a `Report`,
which is immutable; `with_known` returns a new one.
"""

import json
import math
import os
import textwrap
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

BACKENDS = ("tensorflow", "jax", "torch", "numpy", "openvino")
# status -> the text of its table cell, and its ANSI colour
_MARKS = {
    "pass": ("ok", "32"),
    "fail": ("FAIL", "31"),
    "known": ("known", "33"),
    "unexpected pass": ("PASSES!", "31"),
    "not applicable": ("-", "2"),
    "not checked": ("?", "2"),
}
STATUSES = tuple(_MARKS)


@dataclass(frozen=True)
class Cell:
    """One check on one backend.

    Attributes:
        check: "value", "gradient", ...: a row of the table.
        backend: "tensorflow", "jax", ...: a column.
        status: One of `STATUSES`.
        detail: One sentence: the fault, or the reason why the check does not apply.
        error: The worst error, in the unit of `tolerance`; may be inf or nan.
        tolerance: The largest allowed `error`.
        case: The case that gave `error`.
        reproduce: A command line that reproduces it.
        errors: For every case, error / tolerance; may contain inf and nan.
    """

    check: str
    backend: str
    status: str
    detail: str = ""
    error: float | None = None
    tolerance: float | None = None
    case: str | None = None
    reproduce: str | None = None
    errors: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"`status` must be one of {STATUSES}. Received: {self.status!r}")

    @property
    def share(self) -> float | None:
        """The worst error divided by its tolerance."""
        if self.error is None or self.tolerance is None:
            return None
        if self.tolerance == 0:  # exact equality
            return self.error * math.inf if self.error else 0.0
        return self.error / self.tolerance

    @property
    def mark(self) -> str:
        """The text of the table cell: "ok 0.02", "FAIL inf", "-"."""
        mark = _MARKS[self.status][0]
        return mark if self.share is None else f"{mark} {self.share:.2g}"


@dataclass(frozen=True)
class Report:
    """The results of one run of the checks.

    Attributes:
        target: The loss, as it was named.
        oracle: The oracle, as it was named, or None.
        inputs: The family, file or callable that gave the batches.
        seed: The seed of the inputs.
        compared: What values and gradients were compared with.
        versions: For every backend that was started, its version and that of Keras.
        cells: One for each check and backend.
        unchecked: For every backend that was not started, the reason.
        seconds: The duration of the run.
        notes: Further results, such as the smallest failing case that a search found.
    """

    target: str
    oracle: str | None
    inputs: str
    seed: int
    compared: str
    versions: Mapping[str, str]
    cells: tuple[Cell, ...]
    unchecked: Mapping[str, str]
    seconds: float
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for (check, backend), count in Counter((cell.check, cell.backend) for cell in self.cells).items():
            if count > 1:  # the table has room for one
                raise ValueError(
                    f"`cells` must have one cell per check and backend. Received twice: {check}, {backend}"
                )

    @property
    def backends(self) -> tuple[str, ...]:
        """The columns: the backends that were started, as in `versions`, then any other with a cell."""
        return tuple(dict.fromkeys([*self.versions, *(cell.backend for cell in self.cells)]))

    @property
    def failures(self) -> tuple[Cell, ...]:
        """The cells that fail, and the known failures that pass."""
        return tuple(cell for cell in self.cells if cell.status in ("fail", "unexpected pass"))

    @property
    def ok(self) -> bool:
        """Whether no cell fails and at least one was checked."""
        return not self.failures and any(cell.status in ("pass", "known") for cell in self.cells)

    @property
    def exit_code(self) -> int:
        """0 if the report is ok, else 1."""
        return 0 if self.ok else 1

    @property
    def summary(self) -> str:
        """The number of cells with each status, in one line."""
        count = Counter(cell.status for cell in self.cells)
        rare = {"unexpected pass": "pass unexpectedly", "not checked": "not checked"}
        line = "" if self.ok or self.failures else "Nothing was checked: "
        line += f"{count['pass']} checks pass, {count['fail']} fail, {count['known']} known failures, "
        line += f"{count['not applicable']} not applicable"
        line += "".join(f", {count[status]} {words}" for status, words in rare.items() if count[status])
        return f"{line}. {self.seconds:.1f} s."

    def with_known(self, known: Mapping[str, str]) -> "Report":
        """Return the report with known failures marked, strictly.

        A listed cell that fails becomes "known", one that passes an "unexpected pass". A line without a backend expects
        a failure on at least one backend; if there is one, passing cells stay unchanged. Cells that are not applicable
        or not checked stay unchanged. A line for a backend without a column is ignored.

        Args:
            known: The result of `read_known`.

        Raises:
            ValueError: if a line names a check that this report does not have.
        """
        changed = {}
        for entry, where in known.items():
            check, _, backend = entry.rpartition(" ")
            if backend not in {*self.backends, *BACKENDS}:
                check, backend = entry, ""
            row = [cell for cell in self.cells if cell.check == check]
            if not row:
                names = ", ".join(dict.fromkeys(cell.check for cell in self.cells))
                raise ValueError(f"{where}: expected `CHECK [BACKEND]`, a check of: {names}. Received: {entry!r}")
            listed = [cell for cell in row if backend in ("", cell.backend)]
            failing = [cell for cell in listed if cell.status in ("fail", "known")]
            for cell in failing:
                changed[check, cell.backend] = replace(cell, status="known")
            for cell in listed:
                if cell.status == "pass" and not failing:
                    detail = f"Passes, but is listed as a known failure in {where}: remove the line."
                    changed[check, cell.backend] = replace(cell, status="unexpected pass", detail=detail)
        return replace(self, cells=tuple(changed.get((cell.check, cell.backend), cell) for cell in self.cells))

    def text(self, color: bool = False, width: int | None = None) -> str:
        """Return the report for a terminal.

        Args:
            color: Whether to colour the marks with ANSI codes; the text is the same.
            width: The column at which sentences wrap, or None. The table and the commands that reproduce a failure
                never wrap.

        Returns:
            Lines, without a newline at the end.
        """

        def paint(mark: str, status: str) -> str:
            return f"\033[{_MARKS[status][1]}m{mark}\033[0m" if color else mark

        def wrap(text: str, first: str = "  ") -> str:
            if width is None:
                return first + text
            rest = " " * len(first)
            return textwrap.fill(text, max(width, 40), initial_indent=first, subsequent_indent=rest)

        facts, rows = self._facts(), self._rows()
        label = max(len(name) for name, _ in facts) + 2
        lines = [wrap(value, name.ljust(label)) for name, value in facts]
        label = max(map(len, rows), default=0) + 2
        widths = {b: 2 + max(map(len, [b, *(row[b].mark for row in rows.values())])) for b in self.backends}
        lines += ["", (" " * label + "".join(b.ljust(widths[b]) for b in self.backends)).rstrip()]
        for check, row in rows.items():
            marks = (paint(cell.mark, cell.status) + " " * (widths[b] - len(cell.mark)) for b, cell in row.items())
            lines.append((check.ljust(label) + "".join(marks)).rstrip())
        for cell in self.failures:
            lines += ["", f"{paint(_MARKS[cell.status][0], cell.status)} {cell.check}, {cell.backend}"]
            lines += [wrap(text) for text in (_line(cell.detail), self._numbers(cell)) if text]
            lines += [f"  {_line(cell.reproduce)}"] if cell.reproduce else []
        for title, entries in self._sections():
            lines += ["", title, *(wrap(line) for entry in entries for line in entry.split("\n"))]
        return "\n".join([*lines, "", self.summary])

    def as_dict(self) -> dict[str, Any]:
        """Return the report as a dictionary for JSON, in schema 1.

        Every key is the attribute of the same name in `Report` and `Cell`. A later version may add keys; a version that
        changes or drops a key increments `schema`. JSON has no infinities and no nan, so a "number" below is a number
        or one of the strings "inf", "-inf" and "nan".

        Returns:
            A dictionary of

            - schema (integer): 1
            - target (string), oracle (string or null), inputs (string), seed (integer), compared (string)
            - versions (object: backend -> string), unchecked (object: backend -> string)
            - ok (boolean): no status is "fail" or "unexpected pass", and at least one is "pass" or "known"
            - seconds (number), notes (array of strings)
            - cells (array of objects):

              - check, backend (strings)
              - status (string): "pass", "fail", "known" (a known failure that fails), "unexpected pass" (a known
                failure that passes), "not applicable" or "not checked"
              - detail (string, may be empty), error, tolerance (numbers or null), case, reproduce (strings or null)
              - errors (object: case -> number)
        """
        cells = [
            vars(cell)
            | {"error": _number(cell.error), "tolerance": _number(cell.tolerance)}
            | {"errors": {case: _number(error) for case, error in cell.errors.items()}}
            for cell in self.cells
        ]
        containers = {"versions": dict(self.versions), "unchecked": dict(self.unchecked), "notes": list(self.notes)}
        return {"schema": 1, "ok": self.ok} | vars(self) | containers | {"cells": cells}

    def json(self) -> str:
        """Return `as_dict` as a JSON document."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n"

    def html(self) -> str:
        """Return a self-contained HTML page: table, failures, and a plot of error by case and backend."""
        title = f"multiloss check: {_escape(self.target)}"
        facts = "".join(f"<dt>{_escape(name)}</dt><dd>{_escape(value)}</dd>\n" for name, value in self._facts())
        head = "".join(f'<th scope="col">{_escape(backend)}</th>' for backend in self.backends)
        rows = ""
        for check, row in self._rows().items():
            cells = "".join(
                f'<td class="{cell.status.replace(" ", "-")}" title="{_escape(cell.detail)}">{cell.mark}</td>'
                for cell in row.values()
            )
            rows += f'<tr><th scope="row">{_escape(check)}</th>{cells}</tr>\n'
        below = "<h2>Failures</h2>\n" if self.failures else ""
        for cell in self.failures:
            below += f'<h3><span class="fail">{_MARKS[cell.status][0]}</span> {_escape(cell.check)}, '
            below += f"{_escape(cell.backend)}</h3>\n<p>{_escape(cell.detail)}<br>{_escape(self._numbers(cell))}</p>\n"
            below += f"<pre><code>{_escape(cell.reproduce)}</code></pre>\n" if cell.reproduce else ""
        for name, entries in self._sections():
            items = "".join(f"<li>{_escape(entry)}</li>\n" for entry in entries)
            below += f"<h2>{name}</h2>\n<ul>{items}</ul>\n"
        panels = "".join(_panel(check, row) for check, row in self._rows().items())
        if panels:
            legend = " ".join(f'<b class="b{i % 5}">&#9679;</b> {_escape(b)}' for i, b in enumerate(self.backends))
            below += "<h2>Error by case</h2>\n<p>Error divided by tolerance; the dashed line is 1. A cross at the top "
            below += f'marks an error that is not finite.</p>\n<p>{legend}</p>\n<div class="panels">\n{panels}</div>\n'
        return (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
            f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<dl>\n{facts}</dl>\n"
            f"<table>\n<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n"
            f"<p><b>{self.summary}</b></p>\n{below}</body>\n</html>\n"
        )

    def _facts(self) -> list[tuple[str, str]]:
        facts = [("target", self.target), ("oracle", self.oracle or "none"), ("compared", self.compared)]
        facts += [("inputs", f"{self.inputs}, seed {self.seed}"), *self.versions.items()]
        return [(_line(name), _line(value)) for name, value in facts]

    def _rows(self) -> dict[str, dict[str, Cell]]:
        """Return for every check, in order of first appearance, its cell on every backend."""
        cells = {(cell.check, cell.backend): cell for cell in self.cells}
        return {
            check: {b: cells.get((check, b), Cell(check, b, "not checked")) for b in self.backends}
            for check in dict.fromkeys(cell.check for cell in self.cells)
        }

    def _numbers(self, cell: Cell) -> str:
        """Return the numbers of a failure: "error 0.1, tolerance 1e-05, case ties, seed 0"."""
        error, tolerance = (None if x is None else f"{x:.3g}" for x in (cell.error, cell.tolerance))
        parts = {"error": error, "tolerance": tolerance, "case": cell.case, "seed": str(self.seed)}
        return _line(", ".join(f"{name} {value}" for name, value in parts.items() if value is not None))

    def _sections(self) -> list[tuple[str, list[str]]]:
        """Return the sections below the failures: title and entries; only a note may have several lines."""
        titles = {"known": "Known failures", "not applicable": "Not applicable", "not checked": "Not checked"}
        sections: dict[str, list[str]] = {title: [] for title in (*titles.values(), "Notes")}
        reasons: dict[tuple[str, str, str], list[str]] = {}
        for cell in self.cells:
            reasons.setdefault((cell.status, cell.check, cell.detail), []).append(cell.backend)
        for (status, check, detail), backends in reasons.items():
            if status in titles:
                where = "" if len(backends) == len(self.backends) else f" ({', '.join(backends)})"
                sections[titles[status]].append(_line(f"{check}{where}: {detail}".removesuffix(": ")))
        sections["Not checked"] += [_line(f"{backend}: {reason}") for backend, reason in self.unchecked.items()]
        sections["Notes"] += ["\n".join(map(_line, note.splitlines())) for note in self.notes]
        return [(title, entries) for title, entries in sections.items() if entries]


def read_known(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read a list of known failures, for `Report.with_known`.

    Each line is `CHECK` or `CHECK BACKEND`; without a backend, the check is expected to fail on at least one. `#`
    starts a comment.

    Returns:
        The place of every entry: `{"unknown batch size jax": "known.txt:3"}`.

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


def _line(text: str) -> str:
    """Return text without line breaks and without characters that a terminal or XML parser may reject."""
    return "".join(c if c.isprintable() else " " for c in text)


def _escape(text: str) -> str:
    return escape("\n".join(map(_line, text.splitlines())))


def _number(value: float | None) -> float | str | None:
    return None if value is None else float(value) if math.isfinite(value) else str(float(value))


def _panel(check: str, row: Mapping[str, Cell]) -> str:
    """Return the plot of one check, error / tolerance by case, or "" if it has no errors."""
    cases = list(dict.fromkeys(case for cell in row.values() for case in cell.errors))
    if not cases:
        return ""
    left, right, top, height, longest = 62, 468, 8, 120, 22  # pixels, and characters of a label
    step = (right - left) / len(cases)

    def y(share: float) -> float:  # from 1e-4 at the bottom to 1e2 at the top
        return top + (height * (2 - math.log10(min(max(share, 1e-4), 1e2))) / 6 if math.isfinite(share) else 0)

    shapes = ""
    for decade in range(-4, 3):
        at, kind = y(10.0**decade), "tolerance" if decade == 0 else "grid"
        shapes += f'<line class="{kind}" x1="{left}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>\n'
        if decade % 2 == 0:
            shapes += f'<text x="{left - 5}" y="{at + 3:.1f}" text-anchor="end">{10.0**decade:g}</text>\n'
    for i in range(0, len(cases), math.ceil(12 / step)):  # as many labels as fit
        label = cases[i] if len(cases[i]) <= longest else cases[i][: longest - 1] + "…"
        place = f'transform="translate({left + (i + 0.5) * step + 3:.1f} {top + height + 12}) rotate(-60)"'
        shapes += f'<text {place} text-anchor="end">{_escape(label)}<title>{_escape(cases[i])}</title></text>\n'
    for i, (backend, cell) in enumerate(row.items()):
        shift = (i - (len(row) - 1) / 2) * min(7, step / (len(row) + 1))
        for case, share in cell.errors.items():
            at_x, at_y = left + (cases.index(case) + 0.5) * step + shift, y(share)
            title = f"<title>{_escape(f'{check}, {case}, {backend}: {share:.2g} times the tolerance')}</title>"
            if math.isfinite(share):
                shapes += f'<circle class="b{i % 5}" cx="{at_x:.1f}" cy="{at_y:.1f}" r="3">{title}</circle>\n'
            else:
                cross = f"M{at_x - 4:.1f} {at_y - 4:.1f}l8 8m0 -8l-8 8"
                shapes += f'<path class="b{i % 5}" d="{cross}">{title}</path>\n'
    size = f"470 {top + height + 16 + 5 * min(longest, max(map(len, cases)))}"
    name = _escape(check)
    svg = f'<svg role="img" aria-label="{name}: error by case" width="470" viewBox="0 0 {size}">\n{shapes}</svg>'
    return f"<figure><figcaption>{name}</figcaption>\n{svg}</figure>\n"


_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #fff; --line: #d5d9de; --dim: #646b73;
  --pass: #12703a; --fail: #c01b1b; --known: #8a5a00;
  --b0: #0072b2; --b1: #d55e00; --b2: #009e73; --b3: #b0468c; --b4: #77600a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6e9; --paper: #17191c; --line: #3a3f45; --dim: #9aa2ab;
  --pass: #5cc98a; --fail: #ff7b72; --known: #e3b341;
  --b0: #56b4e9; --b1: #ff9a52; --b2: #3ddbb0; --b3: #e39ccb; --b4: #f0e442; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1000px;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; } h3 { font-size: 1rem; margin-bottom: 0; } p { margin-top: .3rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; } dt { color: var(--dim); } dd { margin: 0; }
table { border-collapse: collapse; } th { text-align: left; } li { white-space: pre-wrap; }
th, td { border-bottom: 1px solid var(--line); padding: .15rem 1.2rem .15rem 0; }
.pass { color: var(--pass); } .fail, .unexpected-pass { color: var(--fail); font-weight: bold; }
.known { color: var(--known); } .not-applicable, .not-checked { color: var(--dim); }
pre { overflow-x: auto; border: 1px solid var(--line); padding: .4rem .6rem; margin: 0; }
.panels { display: flex; flex-wrap: wrap; gap: .8rem 1.2rem; } figure { margin: 0; } figcaption { font-weight: bold; }
svg { max-width: 100%; height: auto; } svg text { font: 10px system-ui, sans-serif; fill: var(--dim); }
line { stroke: var(--line); } line.tolerance { stroke: var(--ink); stroke-dasharray: 5 3; }
circle { fill: currentColor; fill-opacity: .8; } path { stroke: currentColor; stroke-width: 2; fill: none; }
.b0 { color: var(--b0); } .b1 { color: var(--b1); } .b2 { color: var(--b2); } .b3 { color: var(--b3); }
.b4 { color: var(--b4); }
"""
