"""The results of a comparison: as text, as JSON, as one HTML page, and as a picture."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multiloss.check.report import Cell, contents, html, text
from multiloss.check.slopes import ROUNDING

# In the order of a step of training. What a stage has wrong, later ones have, too.
STAGES = (
    *("runs", "data", "weights", "deterministic", "forward", "forward_training"),
    *("loss", "metrics", "gradient", "step", "curve"),
)
_PRECISIONS = {ROUNDING: "float32", 2.0**-11: "TF32 or float16", 2.0**-8: "bfloat16"}


@dataclass(frozen=True)
class Comparison:
    """The results of `compare_training`.

    Attributes:
        build: The model, as it was named.
        data: The data, as they were named.
        seed: The seed of the data.
        steps: The steps of training.
        versions: For every backend that was started, its version and that of Keras.
        cells: One for each stage and backend. An error is in the unit of the tensor it is of, its tolerance 32 times
            what moving inputs and weights by a unit in the last place does to it, 256 times if float64 agrees.
        curves: For every backend, the loss of each step.
        notes: What explains differences that are rounding, and what was left out.
        unchecked: For every backend that was not started, the reason.
        seconds: The duration of the run.
        recorded: The file to which a record was written, or "".
        rounding: The relative rounding of the precision that the model computes in: 6e-8 of float32.
    """

    build: str
    data: str
    seed: int
    steps: int
    versions: Mapping[str, str]
    cells: tuple[Cell, ...]
    curves: Mapping[str, Sequence[float]]
    notes: tuple[str, ...] = ()
    unchecked: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    recorded: str = ""
    rounding: float = ROUNDING

    @property
    def backends(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(dict.fromkeys([*self.versions, *(cell.backend for cell in self.cells)]))

    @property
    def failures(self) -> tuple[Cell, ...]:
        """The cells of stages at which numbers part, in their order."""
        failing = [cell for cell in self.cells if cell.status == "fail"]
        return tuple(sorted(failing, key=lambda cell: STAGES.index(cell.check)))

    @property
    def ok(self) -> bool:
        """Whether nothing parts, and two backends at least were compared, or what one computed is recorded."""
        return not self.failures and (self._compared or bool(self.recorded))

    @property
    def _compared(self) -> bool:
        return len({cell.backend for cell in self.cells if cell.check == "curve"}) > 1

    @property
    def exit_code(self) -> int:
        """0 if the comparison is ok, else 1."""
        return 0 if self.ok else 1

    @property
    def first(self) -> Mapping[str, Cell]:
        """For every backend that parts, the cell of the stage at which it does."""
        found: dict[str, Cell] = {}
        for cell in self.failures:
            found.setdefault(cell.backend, cell)
        return found

    @property
    def verdict(self) -> str:
        """The result in one line."""
        name = contents.plain(self.build)
        places: dict[tuple[str, str | None], list[str]] = {}
        for backend, cell in self.first.items():
            places.setdefault((cell.check, cell.case), []).append(backend)
        if places:
            where = [
                f"{' and '.join(some)} "
                + ("did not run" if stage == "runs" else f"at `{stage}`{f', {case}' if case else ''}")
                for (stage, case), some in places.items()
            ]
            word = "FAILS" if all(stage == "runs" for stage, _ in places) else "PARTS"
            return contents.plain(f"{word}: {name}: {'; '.join(where)}.")
        if not self.ok:
            return f"NOTHING WAS COMPARED: {name}."
        if not self._compared:
            return contents.plain(f"RECORDED: {name}: {self.steps} steps on {', '.join(self.backends)}.")
        worst = max((cell for cell in self.cells if cell.ratio is not None), key=lambda cell: cell.ratio or 0.0)
        return (
            f"AGREES: {name}: {self.steps} steps on {', '.join(self.backends)} differ by rounding: at most "
            f"{worst.ratio or 0.0:.2g} of what it explains, at `{worst.check}` ({worst.case})."
        )

    def text(self, color: bool = False, width: int | None = None, failures: int | None = 3) -> str:
        """Return the comparison for a terminal; the arguments are those of `Report.text`."""
        return text.page(self._contents(), color, width, failures)

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as a dictionary for JSON, in schema 1: every attribute, and `ok` and `verdict`."""
        cells = [
            vars(cell)
            | {"error": contents.number(cell.error), "tolerance": contents.number(cell.tolerance)}
            | {"errors": {case: contents.number(error) for case, error in cell.errors.items()}}
            for cell in self.cells
        ]
        curves = {backend: [contents.number(value) for value in curve] for backend, curve in self.curves.items()}
        containers: dict[str, Any] = {"versions": dict(self.versions), "unchecked": dict(self.unchecked)}
        containers |= {"notes": list(self.notes), "cells": cells, "curves": curves}
        return {"schema": 1, "ok": self.ok, "verdict": self.verdict} | vars(self) | containers

    def json(self) -> str:
        """Return `as_dict` as a JSON document."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n"

    def html(self) -> str:
        """Return a self-contained HTML page: as the text, and plots of the losses and of the error by layer."""
        return html.page(self._contents(), self.curves)

    def picture(self, path: str | Path) -> None:
        """Write a picture of the losses and of the error by layer; needs matplotlib."""
        from multiloss.check.models import picture  # matplotlib takes a second to import

        picture.write(self.curves, self.cells, path)

    def _contents(self) -> contents.Contents:
        cells = {(cell.check, cell.backend): cell for cell in self.cells}
        facts = {"model": self.build, "data": f"{self.data}, seed {self.seed}", "steps": str(self.steps)}
        facts |= {"rounding": f"{self.rounding:.2g} ({_PRECISIONS[self.rounding]})"}
        facts |= {"record": self.recorded} if self.recorded else {}
        facts |= {**self.versions, "time": f"{self.seconds:.1f} s"}
        return contents.Contents(
            ok=self.ok,
            verdict=self.verdict,
            backends=self.backends,
            rows={
                stage: {b: cells.get((stage, b), Cell(stage, b, "not checked")) for b in self.backends}
                for stage in STAGES
                if any(cell.check == stage for cell in self.cells)
            },
            findings=contents.findings(self.first.values(), self.backends, lambda _: True),
            sections=contents.sections(self.cells, self.backends, self.unchecked, self.notes),
            facts=[(contents.plain(name), contents.plain(value)) for name, value in facts.items()],
            target=contents.plain(self.build),
            seed=self.seed,
            command="compare",
        )
