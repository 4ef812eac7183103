"""The checks, each an object of its own: what it applies to, what it requests, what it concludes."""

from multiloss.check.checks.base import Check
from multiloss.check.checks.compiled import Compiled, Determinism, Retracing, UnknownBatch
from multiloss.check.checks.precision import Half
from multiloss.check.checks.settings import Config, Fit, Save
from multiloss.check.checks.shapes import BatchSize, LargeLabels, Rank
from multiloss.check.checks.values import EmptyBatch, Finite, Gradient, Runs, Value
from multiloss.check.checks.weights import Mask, Reduction, SampleWeight

# The rows of the report, in order.
ALL: dict[str, Check] = {
    check.name: check
    for check in (
        Runs(),
        Value(),
        Finite(),
        Gradient(),
        Compiled(),
        UnknownBatch(),
        BatchSize(),
        Rank(),
        EmptyBatch(),
        Half("float16"),
        Half("bfloat16"),
        SampleWeight(),
        Mask(),
        Reduction(),
        Config(),
        Save(),
        Fit(),
        LargeLabels(),
        Retracing(),
        Determinism(),
    )
}
CHECKS = tuple(ALL)
