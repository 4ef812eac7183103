"""More cases than those of `inputs`, drawn and made smaller by hypothesis, which is imported only here, and when asked.

A case is built of few and round numbers, so that a small one reads well: whole numbers in one of a few units, or with
numbers of any size among them.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from multiloss.check.inputs import FAMILIES, Case, load
from multiloss.check.report import Cell
from multiloss.check.targets import TargetError

_ROWS, _CLASSES, _FEATURES = 3, 3, 2
_DRAWN = "drawn"  # the name of a case of a family
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
        raise TargetError('`search` needs hypothesis: pip install "multiloss[search]"') from None
    if inputs.endswith(".npz"):
        raise TargetError(f"`search` needs a family or a function of a seed as `inputs`. Received: {inputs!r}")

    # hypothesis mixes numbers that it finds in the modules at hand into what it draws, but for booleans: all is made of
    # them, so that a seed finds the same whatever is imported.
    bit = st.booleans()

    def numbers(draw: Any) -> Callable[[int], int]:
        return lambda bits: functools.reduce(lambda high, _: 2 * high + draw(bit), range(bits), 0)

    row = st.composite(lambda draw, kind: _row(numbers(draw), inputs, logits, kind))

    def case(draw: Any) -> Case:
        number = numbers(draw)
        if inputs not in FAMILIES:
            cases = load(inputs, number(32))
            return cases[number(16) % len(cases)]
        rows = draw(st.lists(row(number(3)), min_size=1, max_size=_ROWS))
        y, x = (np.stack(part) for part in zip(*rows, strict=True))
        return Case(_DRAWN, y, x.astype(np.float32), True)

    return st.composite(case)()


def _row(number: Callable[[int], int], inputs: str, logits: bool, kind: int) -> tuple[Any, np.ndarray]:
    """Return truth and prediction of one row, made of numbers of so many bits: reals are of one of 8 kinds."""

    def array(element: Callable[[], float], *shape: int) -> np.ndarray:
        return np.reshape([element() for _ in range(int(np.prod(shape)))], shape)

    def scaled(exponent: int) -> float:  # by a number from 1 to 2
        return (1 + number(8) / 256) * 2.0**exponent

    def real() -> float:
        sign = 1 - 2 * number(1)
        if kind < len(_UNITS):
            return sign * (number(5) % 17) * _UNITS[kind]
        return sign * (scaled(number(5) - 18) if number(1) else number(2))

    def probability() -> float:
        if not number(1):
            return number(5) % 17 / 16
        small = scaled(-1 - number(7) % 100)
        return 1 - small if number(1) else small

    if inputs == "regression":
        return array(real, _FEATURES).astype(np.float32), array(real, _FEATURES)
    if inputs == "masks":
        pixels = (2, 2, 1)
        return array(lambda: number(1), *pixels).astype(np.float32), array(real if logits else probability, *pixels)
    label = number(4) % _CLASSES
    if inputs == "labels-embeddings":
        return np.int32(label), array(real, _FEATURES)
    truth: Any = np.eye(_CLASSES, dtype=np.float32)[label] if inputs == "one-hot" else np.int32(label)
    scores = array(real, _CLASSES) if logits else array(lambda: number(5) % 17, _CLASSES)
    if not logits:
        scores = scores + (scores.sum() == 0)
        scores = scores / scores.sum()
    return truth, scores


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
    if not lost and found.case is not None and found.case.name == _DRAWN:
        # A row is too much at once for hypothesis to drop.
        for row in reversed(range(len(found.case.x))):
            y, x = (np.delete(part, row, axis=0) for part in (found.case.y, found.case.x))
            if len(x) and (cells := failing(found.case._replace(y=y, x=x))):
                found = Found(tried, found.case._replace(y=y, x=x), cells)
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
