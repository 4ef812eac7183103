"""More cases than those of `inputs`, drawn and made smaller by hypothesis, which is imported only here, and when asked.

A case is built of few and round numbers, so that a small one reads well: whole numbers in one of a few units, and any
float32 among them.
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from multiloss.check.inputs import FAMILIES, Case, load
from multiloss.check.report import Cell
from multiloss.check.targets import TargetError

_ROWS, _CLASSES, _FEATURES = 3, 3, 2
_UNITS = (1.0, 0.125, 1e-3, 100.0)


class Found(NamedTuple):
    """What came of a search: how many cases were tried, and the smallest that failed with its cells, if any."""

    tried: int
    case: Case | None
    cells: list[Cell]


def strategy(inputs: str, logits: bool) -> Any:
    """Return a strategy of cases.

    Args:
        inputs: a family, or the text of a function of a seed.
        logits: as in `inputs.family`.

    Raises:
        TargetError: if hypothesis is not installed, or the inputs are a file.
    """
    try:
        import hypothesis.strategies as st
    except ImportError:
        raise TargetError("`search` needs hypothesis: pip install 'multiloss[search]'") from None
    if inputs.endswith(".npz"):
        raise TargetError(f"`search` needs a family or a function of a seed as `inputs`. Received: {inputs!r}")
    if inputs not in FAMILIES:
        return st.integers(0, 2**32 - 1).flatmap(lambda seed: st.sampled_from(load(inputs, seed)))

    def array(elements: Any, *shape: int) -> Any:
        size = int(np.prod(shape))
        return st.lists(elements, min_size=size, max_size=size).map(lambda numbers: np.reshape(numbers, shape))

    def reals(*shape: int) -> Any:
        some = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)
        in_units = [array(st.integers(-16, 16), *shape).map(lambda n, unit=unit: n * unit) for unit in _UNITS]
        return st.one_of(*in_units, array(st.one_of(st.integers(-2, 2), some), *shape))

    def shares(*shape: int) -> Any:  # along the last axis, which has some
        return array(st.integers(0, 16), *shape).map(_shares)

    def of(rows: int) -> Any:
        classes = array(st.integers(0, _CLASSES - 1), rows)
        pixels, features, scores = (rows, 2, 2, 1), (rows, _FEATURES), (rows, _CLASSES)
        some = st.one_of(st.integers(0, 16).map(lambda n: n / 16), st.floats(0, 1, width=32, allow_subnormal=False))
        y, x = {
            "labels-embeddings": (classes.map(np.int32), reals(*features)),
            "masks": (array(st.integers(0, 1), *pixels), reals(*pixels) if logits else array(some, *pixels)),
            "one-hot": (classes.map(np.eye(_CLASSES).__getitem__), reals(*scores) if logits else shares(*scores)),
            "integer-labels": (classes.map(np.int32), reals(*scores) if logits else shares(*scores)),
            "regression": (reals(*features), reals(*features)),
        }[inputs]
        return st.builds(lambda y, x: Case(f"drawn, {rows} rows", _truth(y), x.astype(np.float32), True), y, x)

    return st.integers(1, _ROWS).flatmap(of)


def _shares(n: np.ndarray) -> Any:
    n = n + (n.sum(axis=-1, keepdims=True) == 0)
    return n / n.sum(axis=-1, keepdims=True)


def _truth(y: np.ndarray) -> np.ndarray:
    return y if y.dtype == np.int32 else y.astype(np.float32)


def smallest(
    cases: Any,
    failing: Callable[[Case], list[Cell]],
    count: int,
    seed: int,
    progress: Callable[[str, int, int], None] | None,
) -> Found:
    """Try cases until one fails, then smaller ones that do too.

    Args:
        cases: a strategy.
        failing: returns the cells that fail on a case.
        count: how many cases to try at most, smaller ones apart.
        seed: of what is drawn.
        progress: as in `check_loss`.
    """
    import hypothesis

    class Failed(Exception):  # not an error
        pass

    tried, found, lost = 0, Found(0, None, []), False

    def attempt(case: Case) -> None:
        nonlocal tried, found, lost
        if lost:
            return
        case = case._replace(plain=True)
        cells = failing(case)
        tried += found.case is None
        if progress:
            progress("search", tried, count)
        if cells:
            found = Found(tried, case, cells)
            # A process that ended or hung is not tried again: each time would cost as much.
            lost = any(cell.status == "not checked" for cell in cells)
            raise Failed

    settings = hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )
    run: Any = hypothesis.seed(seed)(settings(hypothesis.given(cases)(attempt)))
    with contextlib.suppress(Failed, hypothesis.errors.Flaky):
        run()
    return found if found.case is not None else Found(tried, None, [])


def text_of_case(found: Found) -> str:
    """Return the case as Python, to be pasted, with what fails on it."""
    assert found.case is not None
    arrays = [f"{name} = {_text(array)}" for name, array in (("y_true", found.case.y), ("y_pred", found.case.x))]
    where = ", ".join(f"{cell.check} on {cell.backend}" for cell in found.cells)
    return f"The smallest case found to fail ({where}), after {found.tried} drawn:\n" + "\n".join(arrays)


def _text(array: np.ndarray) -> str:
    numbers = np.array2string(array, separator=", ", floatmode="unique", threshold=array.size)
    return f"np.array({' '.join(numbers.split())}, np.{array.dtype})"
