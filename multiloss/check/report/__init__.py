"""The results of the checks: as text for a terminal, as JSON with a versioned schema, and as one HTML page.

Standard library only: the process that reports imports neither Keras nor a backend. All output comes from a `Report`,
which is immutable; `with_known` returns a new one.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from multiloss.check.report import contents, html, known, text
from multiloss.check.report.cells import KINDS, STATUSES, Cell
from multiloss.check.report.known import read_known

__all__ = ["KINDS", "STATUSES", "Cell", "Report", "read_known"]


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
        fail_on: The kinds of failures that make the report fail, of `KINDS`. Others are shown as failures all the same.
            Failures without a kind, and known failures that pass, always count.
        recorded: The file to which a record was written, or "".
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
    fail_on: tuple[str, ...] = KINDS
    recorded: str = ""

    def __post_init__(self) -> None:
        for (check, backend), count in Counter((cell.check, cell.backend) for cell in self.cells).items():
            if count > 1:  # the table has room for one
                raise ValueError(
                    f"`cells` must have one cell per check and backend. Received twice: {check}, {backend}"
                )
        if unknown := [kind for kind in self.fail_on if kind not in KINDS]:
            raise ValueError(f"`fail_on` must be among {', '.join(KINDS)}. Received: {unknown[0]!r}")

    @property
    def backends(self) -> tuple[str, ...]:
        """The columns: the backends that were started, as in `versions`, then any other with a cell."""
        return tuple(dict.fromkeys([*self.versions, *(cell.backend for cell in self.cells)]))

    @property
    def failures(self) -> tuple[Cell, ...]:
        """The cells that fail, of any kind, and the known failures that pass."""
        return tuple(cell for cell in self.cells if cell.failing)

    @property
    def ok(self) -> bool:
        """Whether no failure is of a kind in `fail_on`, and at least one check was run."""
        counted = any(self._counts(cell) for cell in self.failures)
        return not counted and any(cell.status in ("pass", "known", "fail") for cell in self.cells)

    @property
    def exit_code(self) -> int:
        """0 if the report is ok, else 1."""
        return 0 if self.ok else 1

    @property
    def verdict(self) -> str:
        """The result in one line: "FAILS: my.py:Loss gives wrong numbers on torch (value, gradient)."."""
        return contents.verdict(self.target, self.cells, self.backends, self._counts)

    def with_known(self, listed: Mapping[str, str]) -> "Report":
        """Return the report with known failures marked, strictly.

        A listed cell that fails becomes "known", one that passes an "unexpected pass". A line without a backend expects
        a failure on at least one backend; if there is one, passing cells stay unchanged. Cells that are not applicable
        or not checked stay unchanged. A line for a backend without a column is ignored.

        Args:
            listed: The result of `read_known`.

        Raises:
            ValueError: if a line names a check that this report does not have.
        """
        return replace(self, cells=known.marked(self.cells, self.backends, listed))

    def text(self, color: bool = False, width: int | None = None, failures: int | None = 3) -> str:
        """Return the report for a terminal.

        Args:
            color: Whether to colour the marks with ANSI codes; the text is the same.
            width: The column at which sentences wrap, or None. The table, batches and the commands that reproduce a
                failure never wrap.
            failures: How many failures to show, the worst; the others are only named. None for all.

        Returns:
            Lines, without a newline at the end.
        """
        return text.page(self._contents(), color, width, failures)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as a dictionary for JSON, in schema 1.

        Every key is the attribute of the same name in `Report` and `Cell`. A later version may add keys; a version that
        changes or drops a key increments `schema`. JSON has no infinities and no nan, so a "number" below is a number
        or one of the strings "inf", "-inf" and "nan".

        Returns:
            A dictionary with the keys of the text below.

        - schema (integer): 1
        - ok (boolean): no failure counts, and at least one check was run
        - verdict (string): the result in one line
        - target (string), oracle (string or null), inputs (string), seed (integer), compared (string)
        - versions (object: backend -> string), unchecked (object: backend -> string)
        - seconds (number), notes (array of strings)
        - fail_on (array of strings): the kinds of failures that count; those without a kind count always
        - recorded (string): the file to which a record was written, or ""
        - cells (array of objects):
            - check, backend (strings)
            - status (string): "pass", "fail", "known" (a known failure that fails), "unexpected pass" (a known failure
              that passes), "not applicable" or "not checked"
            - kind (string): of a failure, "wrong" (wrong numbers), "crash", "nan" (NaN or infinity), "setting" (one
              that gets lost) or ""
            - detail (string, may be empty), error, tolerance (numbers or null), case, reproduce (strings or null)
            - batch (string): the smallest failing batch as Python code, or ""
            - errors (object: case -> number)
        """
        cells = [
            vars(cell)
            | {"error": contents.number(cell.error), "tolerance": contents.number(cell.tolerance)}
            | {"errors": {case: contents.number(error) for case, error in cell.errors.items()}}
            for cell in self.cells
        ]
        containers: dict[str, Any] = {"versions": dict(self.versions), "unchecked": dict(self.unchecked)}
        containers |= {"notes": list(self.notes), "fail_on": list(self.fail_on)}
        return {"schema": 1, "ok": self.ok, "verdict": self.verdict} | vars(self) | containers | {"cells": cells}

    def json(self) -> str:
        """Return `as_dict` as a JSON document."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n"

    def html(self) -> str:
        """Return a self-contained HTML page: as the text with all failures, and a plot of error by case and backend."""
        return html.page(self._contents())

    def _counts(self, cell: Cell) -> bool:
        """Return whether a failing cell makes the report fail."""
        return cell.kind == "" or cell.kind in self.fail_on

    def _contents(self) -> contents.Contents:
        cells = {(cell.check, cell.backend): cell for cell in self.cells}
        facts = {"target": self.target, "oracle": self.oracle or "none", "compared": self.compared}
        facts |= {"record": self.recorded} if self.recorded else {}
        facts |= {"inputs": f"{self.inputs}, seed {self.seed}", **self.versions, "time": f"{self.seconds:.1f} s"}
        return contents.Contents(
            ok=self.ok,
            verdict=self.verdict,
            backends=self.backends,
            rows={
                check: {b: cells.get((check, b), Cell(check, b, "not checked")) for b in self.backends}
                for check in dict.fromkeys(cell.check for cell in self.cells)
            },
            findings=contents.findings(self.failures, self.backends, self._counts),
            sections=contents.sections(self.cells, self.backends, self.unchecked, self.notes),
            facts=[(contents.plain(name), contents.plain(value)) for name, value in facts.items()],
            target=contents.plain(self.target),
            seed=self.seed,
        )
