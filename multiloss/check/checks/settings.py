"""Whether settings survive a config and a file, and whether a step of `fit` is the same on all backends."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from multiloss.check import compare, tree
from multiloss.check.checks.base import Check, Findings, Replies, Request, Run, has_gradient
from multiloss.check.compare import Difference

KERAS_DTYPE = (
    "Keras's own `Loss.get_config` leaves out `dtype`, and so do losses that extend it: a loss made with another dtype "
    "than `floatx` is loaded with the default."
)


class _OfModels(Check):
    def why_not(self, run: Run, backend: str) -> str:
        if not has_gradient(backend):
            return f"{backend} computes no gradients: values only"
        plain = run.plain
        if not (tree.bare(plain.y) and tree.bare(plain.x)):
            return "labels or predictions are a structure, for which no model is at hand"
        return "" if plain.x.ndim > 1 else "`y_pred` [B] has no feature axis for a layer to produce"

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        return {self.name: Request(self.name, target=run.target, y=run.plain.y, x=run.plain.x)}


class Config(Check):
    """A loss made anew from its config is the same."""

    name = "config"

    def why_not(self, run: Run, backend: str) -> str:
        if not has_gradient(backend):
            return f"{backend} computes no gradients: values only"
        return "" if run.described[backend]["loss"] else "a plain function has no config"

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        return {"config": Request("config", target=run.target, y=run.plain.y, x=run.plain.x)}

    def verdict(self, run: Run, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        plain = run.plain
        with found.at(plain.name):
            result = replies[backend]["config"]
            if result["lost"]:
                lost = ", ".join(f"`{name}`" for name in result["lost"])
                found.fail(plain.name, f"`get_config` leaves out {lost}: lost when the loss is saved", "setting")
            before, after = result["dtypes"] or ("", "")
            if before != after and result["dtype named"]:
                found.fail(plain.name, f"dtype {before} becomes {after}", "setting")
            elif before != after:
                found.note = KERAS_DTYPE
            off = run.close(result["after"], result["before"], backend)
            found.add(plain.name, off, "value differs after the round trip through `get_config`", "setting")


class Save(_OfModels):
    """A model that was compiled with the loss has it when it is loaded from a file."""

    name = "save"

    def verdict(self, run: Run, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        with found.at(run.plain.name):
            result = replies[backend]["save"]
            off = run.close(result["after"], result["before"], backend)
            found.add(run.plain.name, off, "value differs after saving and loading a model", "setting")


class Fit(_OfModels):
    """One step of `fit` gives the same loss and weights on all backends, and finite ones."""

    name = "fit"

    def verdict(self, run: Run, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        results = {b: result for b, answers in replies.items() if (result := answers.get("fit")) is not None}
        moved = {b: np.concatenate([np.ravel(part) for part in result["moved"]]) for b, result in results.items()}
        with found.at(run.plain.name):
            mine = replies[backend]["fit"]
            nan = not (np.isfinite(moved[backend]).all() and np.isfinite(mine["loss"]))
            if nan:
                found.add("weights", Difference(float("nan"), 1.0), "weights are not finite after one step", "nan")
                return
            target = _median(moved, backend)
            # Updates below 6e-8 are lost in weights near 1.
            tolerance = 10 * run.gradient_share * compare.largest(target) + 1.2e-7
            detail = f"after one step differs from that of {run.others(backend)}"
            found.add(
                "weights", compare.difference(moved[backend], target, tolerance), f"the change of weights {detail}"
            )
            loss = _median({b: np.array(result["loss"]) for b, result in results.items()}, backend)
            found.add("loss", run.close(mine["loss"], loss, backend), f"the loss {detail}")


def _median(values: dict[str, Any], backend: str) -> Any:
    """Return the median over the backends; with two backends, the value of the other one."""
    if len(values) == 2:
        return next(value for b, value in values.items() if b != backend)
    return np.sort(np.stack(list(values.values())), axis=0)[(len(values) - 1) // 2]
