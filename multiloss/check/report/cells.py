"""One result: the cell of a check on a backend."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

# status -> the text of its table cell, and its ANSI colour
MARKS = {
    "pass": ("ok", "32"),
    "fail": ("FAIL", "31"),
    "known": ("known", "33"),
    "unexpected pass": ("PASSES!", "31"),
    "not applicable": ("-", "2"),
    "not checked": ("?", "2"),
}
STATUSES = tuple(MARKS)
# What a failure is, in order of severity: wrong numbers, an exception or a lost process, a value or gradient that is
# NaN or infinite, a setting that gets lost.
KINDS = ("wrong", "crash", "nan", "setting")


@dataclass(frozen=True)
class Cell:
    """One check on one backend.

    Attributes:
        check: "value", "gradient", ...: a row of the table.
        backend: "tensorflow", "jax", ...: a column.
        status: One of `STATUSES`.
        detail: One sentence: the fault, the reason why the check does not apply, or a remark on a check that passes.
        error: The worst error, in the unit of `tolerance`; may be inf or nan.
        tolerance: The largest allowed `error`.
        case: The case that gave `error`.
        reproduce: A command line that reproduces it.
        errors: For every case, error / tolerance; may contain inf and nan.
        kind: What the failure is, one of `KINDS`, or "".
        batch: The smallest failing batch as Python code, a line `y_true = ...` and a line `y_pred = ...`, or "".
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
    kind: str = ""
    batch: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"`status` must be one of {STATUSES}. Received: {self.status!r}")
        if self.kind not in ("", *KINDS):
            raise ValueError(f"`kind` must be one of {KINDS}, or ''. Received: {self.kind!r}")

    @property
    def failing(self) -> bool:
        """Whether the check fails, or passes although it is listed as a known failure."""
        return self.status in ("fail", "unexpected pass")

    @property
    def ratio(self) -> float | None:
        """The worst error divided by its tolerance."""
        if self.error is None or self.tolerance is None:
            return None
        if self.tolerance == 0:  # exact equality
            return self.error * math.inf if self.error else 0.0
        return self.error / self.tolerance

    @property
    def mark(self) -> str:
        """The text of the table cell: "ok 0.02", "FAIL inf", "-"."""
        mark = MARKS[self.status][0]
        return mark if self.ratio is None else f"{mark} {self.ratio:.2g}"
