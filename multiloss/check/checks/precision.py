"""Whether half precision overflows, underflows or gives NaN where float32 does not."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from multiloss.check import compare, tree
from multiloss.check.checks.base import Check, Findings, Replies, Request, Run, flat, has_gradient
from multiloss.check.compare import Difference
from multiloss.check.inputs import Case


class Half(Check):
    """Predictions in half precision, and a loss with such a dtype, against float32 on the same inputs."""

    def __init__(self, dtype: str):
        self.name = dtype

    def why_not(self, run: Run, backend: str) -> str:
        return "" if has_gradient(backend) else f"{backend} computes no gradients: values only"

    def _cases(self, run: Run) -> list[Case]:
        return [run.plain, *[case for case in run.cases if case.large]]

    def _rounded(self, case: Case) -> Case:
        return case._replace(x=tree.map(lambda leaf: compare.halved(leaf, self.name), case.x))

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        asked = {}
        for case in self._cases(run):
            half = self._rounded(case)
            asked["float32", case.name] = run.request(half)
            asked["half", case.name] = run.request(half, cast=self.name)
            if run.described[backend]["takes_dtype"]:
                asked["dtype", case.name] = run.request(half, dtype=self.name)
        return asked

    def verdict(self, run: Run, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        mine = replies[backend]
        for case in self._cases(run):
            for name in ("half", "dtype"):
                if (name, case.name) not in mine.requests or mine.get(("float32", case.name)) is None:
                    continue  # other checks say so
                label = case.name if name == "half" else f"{case.name}, dtype={self.name!r}"
                with found.at(label, case):
                    self._compare(run, backend, mine[name, case.name], mine["float32", case.name], label, case, found)

    def _compare(self, run: Run, backend: str, got: Any, wanted: Any, label: str, case: Case, found: Findings) -> None:
        most = 65504.0 if got["dtype"] == "float16" else 3e38
        if compare.largest(wanted["value"]) > most or not np.isfinite(wanted["value"]).all():
            return  # overflow of the result's dtype is not a fault
        plain = run.value_of(backend, run.plain)
        size = max(compare.largest(wanted["value"]), compare.largest(plain["value"]) if plain else 0.0)
        tolerance = compare.HALF[self.name]
        nan = not np.isfinite(got["value"]).all()
        detail = f"{self.name} result differs from float32 on the same inputs"
        if nan:
            detail = f"value is not finite in {self.name}"
        found.add(
            label,
            compare.difference(got["value"], wanted["value"], tolerance * size),
            detail,
            "nan" if nan else "wrong",
            case,
        )
        one, other = got["gradient"], wanted["gradient"]
        if (
            one is not None
            and other is not None
            and np.isfinite(flat(other)).all()
            and not np.isfinite(flat(one)).all()
        ):
            found.add(label, Difference(float("nan"), tolerance), f"gradient is not finite in {self.name}", "nan", case)
