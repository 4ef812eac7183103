"""What checks conclude from replies, and what becomes of it in a cell; without any worker."""

import numpy as np
import pytest

from multiloss.check import judge, slopes
from multiloss.check.checks.base import Findings, Run
from multiloss.check.checks.recorded import Recorded
from multiloss.check.compare import Difference
from multiloss.check.inputs import Case
from multiloss.check.loss_record import Record
from multiloss.check.pool import Reply

X = np.array([[0.5, -1.0], [2.0, 0.25]], np.float32)
CASE = Case("random", 0 * X, X, plain=True)


def squares(x):
    return np.sum(x**2, axis=-1)


RIGHT = 2 * X * slopes.upstream_of((2,))[:, None]


def run_of(results, function=squares, case=CASE, straight_through=False, others=(), rounding=2.0**-24, **options):
    """A run of one case: its value and gradient on each backend, None where it raises. `others` give the same."""
    cases = [case, *others]
    gradients = [np.ravel(result[1]).astype(float) for result in results.values() if result and result[1] is not None]
    made = slopes.truth(
        lambda x: function(x[0]), [case.x], bounds=case.bounds, seed=0, gradients=[g for g in gradients if g.size == 4]
    )
    replies = {
        backend: Reply("error", message=f"ValueError: on {backend}")
        if result is None
        else Reply("done", {"value": result[0], "gradient": None if result[1] is None else [result[1]]})
        for backend, result in results.items()
    }
    run = Run(
        "m:loss",
        cases,
        "regression",
        0,
        {backend: {"straight_through": straight_through, "rounding": rounding} for backend in results},
        eager={backend: dict.fromkeys([case.name for case in cases], reply) for backend, reply in replies.items()},
        **{"truths": dict.fromkeys([case.name for case in cases], made), **options},
    )
    run.scale = judge.scale_of(run)
    return run


def cells_of(name, run):
    """The cells of a check by backend."""
    none = {backend: {} for backend in run.described}
    found = judge.judged(run, [name], none, none)
    return {backend: judge.cell_of(name, backend, result, "again") for (_, backend), result in found.items()}


def told(name, run):
    """Status, kind and detail of the only backend."""
    (cell,) = cells_of(name, run).values()
    return cell.status, cell.kind, cell.detail


# --- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gradient", "expected"),
    [
        (RIGHT, ("pass", "", "")),
        # 1e-4 of the largest is allowed.
        (RIGHT + 5e-5 * RIGHT.max(), ("pass", "", "")),
        (RIGHT + 2e-4 * RIGHT.max(), ("fail", "wrong", "gradient differs from numerical derivatives of its values")),
        (RIGHT[:1], ("fail", "wrong", "gradient of 2 numbers, expected 4")),
        (None, ("fail", "wrong", "gradient differs from numerical derivatives of its values")),
    ],
    ids=["right", "rounding", "wrong", "size", "none"],
)
def test_gradients(gradient, expected):
    run = run_of({"torch": (squares(X), None if gradient is None else np.float32(gradient))})
    assert told("gradient", run) == expected


def test_a_gradient_of_0_for_every_batch_is_told_apart():
    """A single batch may be a minimum, as those of a search are."""
    detail = "the gradient is 0 for every batch: the loss cannot train a model"
    for gradient in (None, 0 * X):
        results = {"torch": (np.ones(2), gradient)}
        run = run_of(results, lambda x: np.ones(2), others=[CASE._replace(name="other")])
        assert told("gradient", run) == ("fail", "wrong", detail)
        assert told("gradient", run_of(results, lambda x: np.ones(2))) == ("pass", "", "")


def test_that_a_large_gradient_is_finite_says_nothing_of_small_ones():
    large = CASE._replace(name="large", x=np.zeros((2, 32_753), np.float32))
    run = run_of({"torch": (squares(X), RIGHT)}, truths={}, untrue={"random": "no float64"}, others=[large])
    run.eager["torch"]["large"] = Reply("done", {"value": np.ones(2), "gradient": [large.x + 1]})
    assert told("gradient", run) == ("not checked", "", "'random': no float64")
    run.cases = [large]
    assert told("gradient", run) == ("pass", "", "finite; all batches are too large for numerical derivatives")
    run.eager["torch"]["large"].result["gradient"][0][0, 0] = np.nan
    run.described["jax"] = run.described["torch"]
    run.eager["jax"] = {"large": Reply("done", {"value": np.ones(2), "gradient": [large.x + 1]})}
    cell = cells_of("gradient", run)["torch"]
    assert (cell.status, cell.kind, cell.detail) == ("fail", "nan", "gradient is not finite")


def test_a_gradient_that_is_not_finite_fails_in_one_row():
    """In that of gradients if it is finite on another backend, else in that of what is finite."""
    for bad in (np.nan, np.inf):
        gradient = np.float32(RIGHT) * [[1, bad]]
        alone = run_of({"torch": (squares(X), gradient)})
        assert told("gradient", alone) == ("not checked", "", f"'random': gradient is {-bad}: see `finite`")
        assert told("finite", alone) == ("fail", "nan", f"gradient is {-bad}")
        run = run_of({"torch": (squares(X), gradient), "jax": (squares(X), np.float32(RIGHT))})
        assert [cell.detail for cell in cells_of("gradient", run).values()] == ["gradient is not finite", ""]
        assert {cell.status for cell in cells_of("finite", run).values()} == {"pass"}


def test_a_gradient_that_cannot_be_told_is_undecided():
    """At a step there is no derivative."""
    x = Case("random", 0 * X, np.array([[0.0, 1.0], [1.0, 1.0]], np.float32), plain=True)
    wanted = np.float32(slopes.upstream_of((2,))[:, None] * np.ones((2, 2)))
    why = "undecided at 'random': numerical derivatives do not converge, or numbers are tied, for 1 of 4 numbers"
    run = run_of({"torch": (np.ones(2), wanted)}, lambda x: x.sum(-1) + (x[:, 0] >= 0), x)
    assert told("gradient", run) == ("pass", "", why)  # the other three are right
    run = run_of({"torch": (np.ones(2), wanted * [[1], [1.001]])}, lambda x: x.sum(-1) + (x[:, 0] >= 0), x)
    assert told("gradient", run)[0] == "fail"


def test_where_one_side_is_unknown_another_gradient_is_undecided():
    x = Case("random", 0 * X, np.array([[0.0, 1.0], [1.0, 1.0]], np.float32), plain=True)
    wanted = slopes.upstream_of((2,))[:, None] * np.ones((2, 2))

    def half(x):
        return np.where(x[:, 0] < 0, np.nan, x.sum(-1))

    for low, status in ((-1.0, "pass"), (0.0, "fail")):  # inside of the range, and at its end
        run = run_of({"torch": (np.ones(2), np.float32(wanted * [[2, 1], [1, 1]]))}, half, x._replace(low=low))
        assert told("gradient", run)[0] == status


def test_between_the_sides_of_a_kink_every_gradient_is_right():
    x = Case("random", 0 * X, np.array([[0.0, 1.0], [1.0, 1.0]], np.float32), plain=True)
    for slope, status in ((-1, "pass"), (0.3, "pass"), (1, "pass"), (1.001, "fail"), (-1.001, "fail")):
        gradient = slopes.upstream_of((2,))[:, None] * [[slope, 1], [1, 1]]
        run = run_of({"torch": (np.ones(2), np.float32(gradient))}, lambda x: np.abs(x).sum(-1), x)
        assert told("gradient", run)[0] == status, slope


def test_a_straight_through_gradient_is_that_of_the_others():
    value, note = squares(X), "straight-through, by intent: finite and the same on all backends"
    others = {"jax": (value, X), "torch": (value, X)}
    cells = cells_of("gradient", run_of({"tensorflow": (value, 1.001 * X), **others}, straight_through=True))
    assert [cell.status for cell in cells.values()] == ["fail", "pass", "pass"]
    assert cells["tensorflow"].detail == "gradient differs from that of the other backends"
    assert cells["jax"].detail == note
    assert told("gradient", run_of({"jax": (value, X)}, straight_through=True)) == ("pass", "", note)
    cells = cells_of("gradient", run_of({"tensorflow": (value, np.nan * X), **others}, straight_through=True))
    assert [cell.status for cell in cells.values()] == ["fail", "pass", "pass"]
    assert (cells["tensorflow"].kind, cells["tensorflow"].detail) == ("nan", "gradient is not finite")


# --- values ----------------------------------------------------------------------------------------------------------


def test_nan_and_infinity_on_every_backend_are_told():
    value, nan = squares(X), np.array([1, np.nan])
    run = run_of({"jax": (nan, X), "torch": (nan, X)})
    assert {cell.detail for cell in cells_of("finite", run).values()} == {"value is nan, on every backend"}
    # Though they differ from the values in float64.
    assert {cell.detail for cell in cells_of("value", run).values()} == {"'random': value is nan: see `finite`"}
    run = run_of({"jax": (nan, X), "torch": (value, X)})
    assert [cell.status for cell in cells_of("finite", run).values()] == ["pass", "pass"]
    jax, torch = cells_of("value", run).values()
    assert (jax.kind, jax.detail.partition(": ")[0], torch.status) == ("nan", "value is nan", "pass")
    run = run_of({"jax": (value, X * -np.inf), "torch": (value, None)})  # which has none
    assert [cell.detail for cell in cells_of("finite", run).values()] == ["gradient is -inf, on every backend", ""]
    alone = run_of({"jax": (nan, X)})
    assert told("finite", alone) == ("fail", "nan", "value is nan")  # of one backend, every one is no news


def test_where_the_oracle_is_infinite_nothing_is_wrong():
    for oracle, status in ((True, "pass"), (False, "fail")):
        run = run_of({"jax": (np.full(2, np.inf), X)}, lambda x: np.full(2, np.inf), oracle=oracle)
        assert told("value", run)[0] == "pass"
        # Without an oracle, that float64 has it as well says nothing.
        assert told("finite", run)[0] == ("not checked" if oracle else status)


def test_values_are_held_to_the_loss_in_float64_on_whatever_backend():
    value = squares(X).astype(np.float32)
    wrong = value * np.float32(1.001)
    one = run_of({"jax": (wrong, X)})
    assert told("value", one) == ("fail", "wrong", "value differs from its own value in float64")
    other = run_of({"jax": (wrong, X), "torch": (value, X)})
    details = {backend: (cell.status, cell.detail) for backend, cell in cells_of("value", other).items()}
    assert details["jax"] == ("fail", "value differs from that of torch: without an oracle, either may be wrong")
    both = run_of({"jax": (wrong, X), "torch": (wrong, X)})
    assert cells_of("value", both)["jax"].detail == "value differs from its own value in float64, on every backend"
    with_oracle = run_of({"jax": (wrong, X)}, oracle=True)
    assert told("value", with_oracle) == ("fail", "wrong", "value differs from the oracle")
    shape = run_of({"jax": (value[:, None], X)}, oracle=True)
    assert told("value", shape)[2] == "value of shape [2, 1], expected [2]: it differs from the oracle"


# --- cells -----------------------------------------------------------------------------------------------------------


def cell(found):
    return judge.cell_of("value", "jax", found, "again")


def test_the_worst_failure_is_the_first_by_kind_then_by_what_can_be_shown_then_by_error():
    small, large = CASE, CASE._replace(x=np.ones((2, 33), np.float32))
    found = Findings()
    found.add("large", Difference(9.0, 1.0), "large", batch=large)
    found.add("small", Difference(2.0, 1.0), "small", batch=small)
    found.add("smaller error", Difference(1.5, 1.0), "smaller error", batch=small)
    found.fail("lost", "lost", "setting", small)
    found.add("nan", Difference(float("nan"), 1.0), "nan", "nan", small)
    assert (cell(found).case, cell(found).kind, cell(found).batch) == ("small", "wrong", small.code)
    found.add("small", Difference(0.5, 1.0))
    assert cell(found).errors == {"large": 9, "small": 2, "smaller error": 1.5, "nan": np.inf}
    found = Findings()
    found.add("large", Difference(9.0, 1.0), "large", batch=large)
    assert (cell(found).case, cell(found).batch) == ("large", "")


def test_what_is_raised_for_one_batch_is_said_beside_what_is_wrong_for_another():
    found = Findings()
    with found.at("two", CASE, "jit"):
        judge.Replies({}, {})["nothing"]
    assert (cell(found).status, cell(found).detail) == ("not checked", "'two': the worker was lost earlier")
    run = run_of({"jax": None})
    assert told("value", run) == ("fail", "crash", "ValueError: on jax")
    found.add("one", Difference(2.0, 1.0), "wrong", batch=CASE)
    found.fail("three", "ValueError: three", "crash", CASE)
    assert cell(found).detail == "wrong. It also raises at 'three': ValueError: three"


def test_what_passes_says_what_is_undecided():
    found = Findings()
    found.add("one", Difference(0.5, 1.0), "not said", batch=CASE)
    found.undecided("two", "a jump")
    found.note = "a note"
    assert (cell(found).status, cell(found).detail) == ("pass", "a note. undecided at 'two': a jump")
    assert (cell(found).error, cell(found).tolerance, cell(found).case) == (0.5, 1, "one")
    found = Findings()
    assert cell(found).status == "not checked"
    found.note = "does not apply after all"
    assert (cell(found).status, cell(found).detail) == ("not applicable", "does not apply after all")
    found.undecided("two", "a jump")
    assert (cell(found).status, cell(found).detail) == ("not checked", "'two': a jump")
    assert cell("why not").status == "not applicable"


# --- records ---------------------------------------------------------------------------------------------------------


def recorded(got, wanted, function=squares, case=CASE, reply=None, truth=True, then=2.0**-24, **options):
    """The cell of a check against a record of torch: pairs of a value and a gradient, and the truth of a function."""
    run = run_of({"torch": (got[0], None if got[1] is None else np.float32(got[1]))}, function, case, **options)
    record = Record(
        path="ref.npz",
        target="m:loss",
        inputs="regression",
        seed=0,
        reduction="none",
        rounding=then,
        cases=run.cases,
        truths=run.truths if truth else {},
        versions={"ref:torch": "torch 1.0"},
        replies={"ref:torch": {"random": {"value": wanted[0], "gradient": None if wanted[1] is None else [wanted[1]]}}},
    )
    table = {"recorded": Recorded(record)}
    requests = {"torch": {"recorded": table["recorded"].requests(run, "torch")}}
    replies = {"torch": {requests["torch"]["recorded"]["random"].key: reply or run.eager["torch"]["random"]}}
    found = judge.judged(run, ["recorded"], requests, replies, table)
    return judge.cell_of("recorded", "torch", found["recorded", "torch"], "again")


def fails(cell):
    return cell.detail if cell.status == "fail" else cell.status == "pass" and ""


VALUE = squares(X)
BY = "that of ref:torch (torch 1.0)"


@pytest.mark.parametrize(
    ("got", "wanted", "detail"),
    [
        ((VALUE, RIGHT), (VALUE, RIGHT), ""),
        ((VALUE * (1 + 1e-5), RIGHT), (VALUE, RIGHT), ""),
        ((VALUE * (1 + 4e-5), RIGHT), (VALUE, RIGHT), f"value differs from {BY}"),
        ((VALUE, RIGHT + 5e-5 * RIGHT.max()), (VALUE, RIGHT), ""),
        ((VALUE, RIGHT + 3e-4 * RIGHT.max()), (VALUE, RIGHT), f"gradient differs from {BY}"),
        # What was wrong then is told, too.
        ((VALUE, RIGHT), (VALUE, RIGHT + 3e-4 * RIGHT.max()), f"gradient differs from {BY}"),
        # A gradient follows from a value that differs.
        ((2 * VALUE, 2 * RIGHT), (VALUE, RIGHT), f"value differs from {BY}"),
        ((VALUE[:1], RIGHT), (VALUE, RIGHT), f"value of shape [1], where [2] is expected, differs from {BY}"),
        ((VALUE, RIGHT[:1]), (VALUE, RIGHT), f"gradient differs from {BY}"),
        ((VALUE, None), (VALUE, RIGHT), ""),
        ((VALUE, np.nan * RIGHT), (VALUE, RIGHT), f"gradient differs from {BY}"),
        ((VALUE, RIGHT), (VALUE, np.nan * RIGHT), f"gradient differs from {BY}"),
        ((np.nan * VALUE, np.nan * RIGHT), (np.nan * VALUE, np.nan * RIGHT), ""),
    ],
    ids=str,
)
def test_values_and_gradients_are_those_of_a_record(got, wanted, detail):
    assert fails(recorded(got, wanted)) == detail
    assert fails(recorded(got, wanted, truth=False)) == detail


def test_the_tolerance_of_a_record_is_that_of_its_precision_and_its_conditioning():
    """TF32 rounds to 5e-4, of which 16 are allowed; where terms cancel, rounding of inputs moves values by more."""
    off = (VALUE * (1 + 4e-5), RIGHT)
    assert not fails(recorded(off, (VALUE, RIGHT), rounding=2.0**-11))
    assert not fails(recorded(off, (VALUE, RIGHT), then=2.0**-11))
    assert fails(recorded((VALUE * 1.01, RIGHT), (VALUE, RIGHT), rounding=2.0**-11))
    at, gradient = CASE._replace(x=X + 1000), np.array([[1.0, 0.0]] * 2) * slopes.upstream_of((2,))[:, None]
    wanted, off = (at.x[:, 0] - 1000, gradient), (at.x[:, 0] - 1000 + 4e-4, gradient)
    assert not fails(recorded(off, wanted, lambda x: x[:, 0] - 1000, at))
    assert fails(recorded(off, wanted, lambda x: x[:, 0] - 1000, at, truth=False))


def test_at_a_kink_a_gradient_is_any_of_its_sides():
    """Each version may have another; what is outside is told, and where nothing is known, what differs at all."""
    at = CASE._replace(x=0 * X)
    value, zero = np.zeros(2), 0 * X

    def size(x):
        return np.sum(np.abs(x), axis=-1)

    for slope, wrong in ((0.4, ""), (2.0, f"gradient differs from {BY}")):
        got = zero + np.float32(slope)
        assert fails(recorded((value, got), (value, zero), size, at)) == wrong
        assert fails(recorded((value, got), (value, zero), size, at, truth=False))


def test_what_raises_now_is_told_of_a_record():
    cell = recorded((VALUE, RIGHT), (VALUE, RIGHT), reply=Reply("error", message="ValueError: now"))
    assert (cell.kind, cell.detail) == ("crash", "ValueError: now")
