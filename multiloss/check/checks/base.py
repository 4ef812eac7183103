"""What a check is: what it applies to, what it requests of a worker, and what it concludes from the replies."""

import contextlib
import dataclasses
import hashlib
import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from multiloss.check import compare
from multiloss.check.compare import Difference
from multiloss.check.inputs import Case
from multiloss.check.pool import Reply
from multiloss.check.slopes import Truth


class Missing(Exception):
    """There is no result to judge; the message is the reason."""


class Raised(Exception):
    """The loss raised; the message is its error."""


class Request:
    """A task of a worker and its arguments; two that are the same are done once."""

    def __init__(self, task: str, **arguments: Any):
        self.task, self.arguments = task, arguments
        self.key = hashlib.sha1(pickle.dumps((task, arguments))).hexdigest()


class Replies:
    """The replies to the requests of one check on one backend, by the names that the check gave them."""

    def __init__(self, requests: Mapping[Any, Request], replies: Mapping[str, Reply]):
        self.requests, self.replies = requests, replies

    def reply(self, name: Any) -> Reply | None:
        """Return a reply, or None if the worker was lost before."""
        return self.replies.get(self.requests[name].key) if name in self.requests else None

    def __getitem__(self, name: Any) -> Any:
        """Return a result, or raise the reason why there is none."""
        return result_of(self.reply(name), name)

    def get(self, name: Any) -> Any:
        """Return a result, or None if there is none."""
        reply = self.reply(name)
        return reply.result if reply is not None and reply.status == "done" else None


def result_of(reply: Reply | None, name: Any = "") -> Any:
    """Return the result of a reply, or raise the reason why there is none."""
    if reply is None:
        raise Missing("the worker was lost earlier")
    if reply.status == "lost":
        raise Missing(reply.message)
    if reply.status == "error":
        raise Raised(reply.message)
    return reply.result


@dataclasses.dataclass
class Finding:
    """What a check found in one case.

    Attributes:
        case: the name of the case.
        difference: the error and its tolerance, if there are numbers.
        failed: whether this is a failure.
        detail: the failure in a sentence.
        kind: of a failure: "wrong", "crash", "nan" or "setting".
        batch: the batch on which the check alone, run again, would find it, if there is one.
    """

    case: str
    difference: Difference | None = None
    failed: bool = False
    detail: str = ""
    kind: str = "wrong"
    batch: Case | None = None


class Findings:
    """All that one check found on one backend."""

    def __init__(self) -> None:
        self.all: list[Finding] = []
        self.missing: dict[str, str] = {}  # case -> why it could not be judged
        self.note = ""  # for the reader of a check that passes

    @contextlib.contextmanager
    def at(self, case: str, batch: Case | None = None, name: str = "") -> Iterator[None]:
        """Judge one case: what the loss raised becomes a failure, what has no reply is noted, others are not hidden."""
        try:
            yield
        except Missing as error:
            self.missing[case] = str(error)
        except Raised as error:
            detail = f"{name}: {error}" if name else str(error)
            self.all.append(Finding(case, None, True, detail, "crash", batch))

    def add(
        self, case: str, difference: Difference, detail: str = "", kind: str = "wrong", batch: Case | None = None
    ) -> None:
        """Add a result that fails if its error is above the tolerance."""
        failed = not difference.ratio <= 1
        self.all.append(Finding(case, difference, failed, detail if failed else "", kind, batch))

    def fail(self, case: str, detail: str, kind: str = "wrong", batch: Case | None = None) -> None:
        """Add a failure without numbers."""
        self.all.append(Finding(case, None, True, detail, kind, batch))

    def require(self, case: str, holds: bool, detail: str, kind: str = "wrong", batch: Case | None = None) -> None:
        """Add a failure unless something holds."""
        self.all.append(Finding(case, None, not holds, "" if holds else detail, kind, batch))

    def undecided(self, case: str, why: str) -> None:
        """Note a case that cannot be decided."""
        self.missing[case] = why


@dataclasses.dataclass
class Scale:
    """The typical size of a loss's values and gradients: the median over the cases."""

    value: float = 1.0
    gradient: float = 1.0


@dataclasses.dataclass
class Run:
    """One run of the checks: what they are about, and what is known so far.

    Attributes:
        target: the loss, as text.
        cases: the batches; `plain` is the one for checks that need only one.
        kind: the family of the inputs, "" for a user's own.
        seed: of the inputs.
        described: backend -> the result of `tasks.describe`.
        own: whether values are reduced as the loss does by itself, since the oracle returns such a value.
        oracle: whether there is one.
        truths: case -> the value and derivatives of the oracle or, without one, of the loss in float64.
        untrue: case -> why there is no such truth.
        eager: backend -> case -> the reply to `value_request`.
    """

    target: str
    cases: list[Case]
    kind: str
    seed: int
    described: dict[str, dict[str, Any]]
    own: bool = False
    oracle: bool = False
    truths: dict[str, Truth] = dataclasses.field(default_factory=dict)
    untrue: dict[str, str] = dataclasses.field(default_factory=dict)
    eager: dict[str, dict[str, Reply]] = dataclasses.field(default_factory=dict)
    scale: Scale = dataclasses.field(default_factory=Scale)

    @property
    def plain(self) -> Case:
        """The case for checks that need only one batch."""
        return next(case for case in self.cases if case.plain)

    @property
    def reduction(self) -> str:
        """The reduction of values, as in `tasks.run`."""
        return "own" if self.own else "none"

    @property
    def value_share(self) -> float:
        """The tolerance of a value relative to its size."""
        return compare.relative(self.rounding)

    @property
    def gradient_share(self) -> float:
        """The tolerance of a gradient relative to the largest entry."""
        return compare.relative(self.rounding, compare.GRADIENT)

    @property
    def rounding(self) -> float:
        """The relative rounding of the least precise products."""
        return max(float(description["rounding"]) for description in self.described.values())

    @property
    def straight_through(self) -> bool:
        """Whether the loss says that its gradient is not that of its values."""
        return any(description["straight_through"] for description in self.described.values())

    def case(self, name: str) -> Case | None:
        """Return a case by its name."""
        return next((case for case in self.cases if case.name == name), None)

    def request(self, case: Case, **options: Any) -> Request:
        """Return the request for the value and gradients of a case."""
        options = {"reduction": "none", "gradient": True, **options}  # equal requests have equal keys
        return Request("run", target=self.target, y=case.y, x=case.x, **options)

    def value_request(self, backend: str, case: Case) -> Request:
        """Return the request that checks of values and gradients share."""
        return self.request(case, reduction=self.reduction, gradient=has_gradient(backend))

    def value_of(self, backend: str, case: Case) -> dict[str, Any] | None:
        """Return the result of `value_request`, or None if there is none."""
        reply = self.eager.get(backend, {}).get(case.name)
        return reply.result if reply is not None and reply.status == "done" else None

    def value_tolerance(self, wanted: Any, moved: Any) -> Any:
        """Return the tolerance of a value that rounding may change by so much."""
        size = max(compare.largest(wanted), self.scale.value)
        return self.value_share * size + np.nan_to_num(moved)

    def agrees(self, truth: Truth, value: Any) -> bool:
        """Whether a value is a truth, but for rounding."""
        if np.shape(value) != np.shape(truth.value):
            return False
        return compare.difference(value, truth.value, self.value_tolerance(truth.value, truth.moved)).ratio <= 1

    def others(self, backend: str) -> str:
        """Return words for the backends that a result is compared with."""
        there = [name for name in self.described if name != backend]
        if len(there) == 1:
            return f"{there[0]}: without an oracle, either may be wrong"
        return "the other backends"

    def close(self, got: Any, wanted: Any, backend: str) -> Difference:
        """Compare values that should differ by rounding only."""
        plain = self.value_of(backend, self.plain)
        size = max(compare.largest(wanted), compare.largest(wanted if plain is None else plain["value"]))
        return compare.difference(got, wanted, self.value_share * size)

    def same(self, got: Any, wanted: Any, backend: str) -> Difference:
        """Compare the values and gradients of two results that should differ by rounding only."""
        value = self.close(got["value"], wanted["value"], backend)
        one, other = got["gradient"], wanted["gradient"]
        if one is None or other is None:
            missing = (one is None) != (other is None) and any(np.any(g) for g in (one or other or []))
            return Difference(float("inf"), 1.0) if missing else value
        plain = self.value_of(backend, self.plain)
        typical = flat(plain["gradient"]) if plain is not None and plain["gradient"] is not None else flat(other)
        # A gradient that should be 0 is a difference of rounded numbers of the typical size of a gradient.
        size = max(compare.largest(flat(other)), compare.largest(typical), 1e-30)
        gradient = compare.difference(flat(one), flat(other), self.gradient_share * size)
        return max(value, gradient, key=lambda found: found.ratio)


def flat(gradients: Any) -> np.ndarray:
    """Return gradients of several arrays as one."""
    return np.concatenate([np.ravel(part) for part in gradients])


# Backends without gradients.
FORWARD_ONLY = ("numpy", "openvino")


def has_gradient(backend: str) -> bool:
    """Whether a backend differentiates."""
    return backend not in FORWARD_ONLY


class Check:
    """One row of the report."""

    name = ""

    def why_not(self, run: Run, backend: str) -> str:
        """Return why the check does not apply, or ""."""
        return ""

    def requests(self, run: Run, backend: str) -> dict[Any, Request]:
        """Return what a worker is asked, by names that `verdict` uses."""
        return {}

    def verdict(self, run: Run, backend: str, replies: Mapping[str, Replies], found: Findings) -> None:
        """Judge the replies of a backend, given those of all."""
        raise NotImplementedError
