"""Random cases in addition to those of `inputs`, drawn and shrunk by hypothesis, which is imported only when needed.

A case has few and round numbers, so that a small one is easy to read: multiples of one of a few units, or numbers of
any magnitude mixed with integers.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from multiloss.check import spec
from multiloss.check.families import FAMILIES, range_of
from multiloss.check.inputs import Case, load
from multiloss.check.report import Cell
from multiloss.check.targets import TargetError

_ROWS, _CLASSES, _FEATURES = 3, 3, 2
_DRAWN = "drawn"  # the name of a case whose rows may be left out
_UNITS = (1.0, 0.125, 1e-3, 100.0)


class Found(NamedTuple):
    """The result of a search: the number of cases tried, and the smallest failing case with its cells, if any."""

    tried: int
    case: Case | None
    cells: list[Cell]


def strategy(inputs: str, logits: bool) -> Any:
    """Return a strategy of cases.

    Args:
        inputs: a family, a specification, or the target string of a function of a seed.
        logits: as in `families.family`.

    Raises:
        TargetError: if hypothesis is not installed, or if the inputs are a file.
    """
    try:
        import hypothesis.strategies as st
    except ImportError:
        raise TargetError('`search` needs hypothesis: pip install "multiloss[search]"') from None
    if spec.is_spec(inputs):
        spec.parse(inputs)  # an error in it is not the loss's
    elif inputs.endswith(".npz"):
        raise TargetError(
            f"`search` needs a family, a specification or a function of a seed as `inputs`. Received: {inputs!r}"
        )

    # hypothesis mixes constants from the loaded modules into its draws, except for booleans. All numbers are built from
    # booleans, so that a seed draws the same whatever is imported.
    bit = st.booleans()

    def numbers(draw: Any) -> Callable[[int], int]:
        return lambda bits: functools.reduce(lambda high, _: 2 * high + draw(bit), range(bits), 0)

    row = st.composite(lambda draw, kind: _row(numbers(draw), inputs, logits, kind))

    def case(draw: Any) -> Case:
        number = numbers(draw)
        if spec.is_spec(inputs):
            return spec.drawn(inputs, number(32), 1 + number(2) % _ROWS, number(2) % len(spec.STYLES))
        if inputs not in FAMILIES:
            cases = load(inputs, number(32))
            return cases[number(16) % len(cases)]
        rows = draw(st.lists(row(number(3)), min_size=1, max_size=_ROWS))
        y, x = (np.stack(part) for part in zip(*rows, strict=True))
        return Case(_DRAWN, y, x.astype(np.float32), True, *range_of(inputs, logits))

    return st.composite(case)()


def _row(number: Callable[[int], int], inputs: str, logits: bool, kind: int) -> tuple[Any, np.ndarray]:
    """Return `y_true` and `y_pred` of one row; `number` draws an integer of some bits, `kind` is one of 8 for reals."""

    def array(element: Callable[[], float], *shape: int) -> np.ndarray:
        return np.reshape([element() for _ in range(int(np.prod(shape)))], shape)

    def scaled(exponent: int) -> float:  # 2^exponent times a number from 1 to 2
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
    if inputs == "sign-labels":
        return array(lambda: 2 * number(1) - 1, _FEATURES).astype(np.float32), array(real, _FEATURES)
    if inputs == "positive":
        return array(lambda: number(3), _FEATURES).astype(np.float32), array(lambda: abs(real()) or 1.0, _FEATURES)
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
    """Try cases until one fails, then smaller ones.

    Args:
        cases: a strategy.
        failing: returns the cells that fail on a case.
        count: the largest number of cases to try, without those tried while shrinking.
        seed: seed of the draws.
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
            # A case that ends or hangs the process is not shrunk: each attempt would take as long.
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
        # hypothesis does not remove whole rows.
        for row in reversed(range(found.case.rows)):
            fewer = found.case.take(np.delete(np.arange(found.case.rows), row))
            if fewer.rows and (cells := failing(fewer)):
                found = Found(tried, fewer, cells)
    return found if found.case is not None else Found(tried, None, [])


def text_of_case(found: Found) -> str:
    """Return the case as Python code, and the checks that fail on it."""
    assert found.case is not None
    where = ", ".join(f"{cell.check} on {cell.backend}" for cell in found.cells)
    return f"Smallest failing case ({where}), after {found.tried} cases:\n{found.case.code}"
