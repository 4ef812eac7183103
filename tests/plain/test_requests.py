"""What the workers are asked, by workers that only write it down."""

import sys
from collections import Counter
from typing import ClassVar

import numpy as np
import pytest

from multiloss.check import CHECKS, check_loss
from multiloss.check.checks import ALL
from multiloss.check.checks.base import Request, Run
from multiloss.check.devices import Settings
from multiloss.check.families import batches
from multiloss.check.pool import Reply
from multiloss.check.slopes import Truth


class Written:
    """Stands in for `Workers` and for each worker: a loss without compiled modes, of which some tasks have replies."""

    python, printed, lost, hung, settings = sys.executable, 0, 0, 0, Settings()
    described: ClassVar = {
        **{
            "loss": True,
            "modes": ["eager"],
            "versions": "",
            "rounding": 2.0**-24,
            "from_logits": False,
            "reduction": "sum",
        },
        **{"takes_dtype": False, "takes_reduction": True, "straight_through": False, "metric": False},
    }

    def __init__(self, **replies):
        self.asked, self.replies = [], {"describe": lambda **_: self.described, **replies}

    def get(self, backend, *_):
        return _Worker(backend, self)

    def tasks(self, backend="torch"):
        return [task for where, task, _ in self.asked if where == backend]


class _Worker(Written):
    def __init__(self, backend, kept):
        self.backend, self.kept = backend, kept

    def ask(self, task, /, **arguments):
        self.kept.asked.append((self.backend, task, arguments))
        if task not in self.kept.replies:
            return Reply("error", message="not run")
        reply = self.kept.replies[task](backend=self.backend, **arguments)
        return reply if isinstance(reply, Reply) else Reply("done", reply)


def ran(y, x, gradient=True, **_):
    value = np.square(x - y).mean(-1).astype(np.float32)
    return {"value": value, "gradient": [0 * x + 1] if gradient else None, "dtype": "float32"}


def exact(y, x, **_):
    value = np.square(x.astype(np.float64) - y).mean(-1)
    return Truth(value, 0 * value, None, False)


def check(workers, backends=("torch",), inputs="regression", **options):
    pythons = dict.fromkeys(backends, sys.executable)
    return check_loss("my:loss", inputs=inputs, backends=pythons, workers=workers, **options)


@pytest.mark.parametrize("name", ["config", "save", "fit", "determinism"])
def test_a_check_of_one_batch_asks_nothing_else(name):
    """The values in float64, of which there are hundreds, serve values and gradients only."""
    workers = Written()
    check(workers, checks=[name])
    assert workers.tasks() == ["describe", name.replace("determinism", "repeat")]


@pytest.mark.parametrize("name", ["value", "finite", "gradient"])
def test_values_and_gradients_ask_for_every_case_once(name):
    workers = Written(run=ran, exact=exact)
    check(workers, checks=[name])
    shapes = [arguments["x"].shape for _, task, arguments in workers.asked if task == "run"]
    assert shapes == [(6, 3)] * 6 + [(2, 65_600), (3, 2, 3), (6, 3), (2, 3), (1, 3), (0, 3)]
    truths = [arguments for _, task, arguments in workers.asked if task == "exact"]
    assert [arguments["x"].shape for arguments in truths] == shapes
    # Derivatives are for their row, and for small batches only. Then they get the gradients that are to be judged.
    of_small = [name == "gradient" and shape not in ((2, 65_600), (0, 3)) for shape in shapes]
    assert [arguments["differentiate"] for arguments in truths] == of_small
    assert all(np.array_equal(arguments["gradients"], np.ones((1, arguments["x"].size))) for arguments in truths)


def test_no_backend_is_asked_the_same_twice():
    workers = Written(run=ran, exact=exact)
    check(workers)
    asked = Counter(Request(task, **arguments).key for _, task, arguments in workers.asked)
    assert set(asked.values()) == {1}
    assert set(workers.tasks()) == {"describe", "run", "exact", "repeat", "config", "save", "fit"}


def test_checks_share_the_request_of_values():
    cases = batches("regression", 0)
    run = Run("my:loss", cases, "regression", 0, {"torch": Written.described, "numpy": Written.described})
    wanted = {case.name: run.value_request("torch", case).key for case in cases if case.rows}
    for name in ("value", "finite", "gradient"):
        assert {case: one.key for case, one in ALL[name].requests(run, "torch").items()} == wanted
    assert run.value_request("torch", cases[0]).arguments["gradient"]
    assert not run.value_request("numpy", cases[0]).arguments["gradient"]
    assert run.value_request("torch", cases[0]).arguments["reduction"] == "none"
    run.own = True
    assert run.value_request("torch", cases[0]).arguments["reduction"] == "own"
    assert run.value_request("torch", cases[0]).key != wanted["random"]


def test_the_truth_is_asked_of_one_backend_if_all_agree_with_it():
    workers = Written(run=ran, exact=exact)
    report = check(workers, ["tensorflow", "jax", "torch"], checks=["value"])
    assert report.ok, report.text()
    exacts = Counter(backend for backend, task, _ in workers.asked if task == "exact")
    assert exacts == {"torch": 12}


def test_any_backend_may_be_the_reference():
    """The first refuses float64, the second rounds to float32 inside, which is less than the third has."""

    def differing(backend, x, y, **_):
        right = exact(y, x)
        if backend == "torch":
            return Reply("error", message="TypeError: no float64 here")
        return right._replace(value=right.value + 0.1, single=True) if backend == "jax" else right

    workers = Written(run=ran, exact=differing)
    report = check(workers, ["tensorflow", "jax", "torch"], checks=["value"])
    assert {cell.status for cell in report.cells} == {"pass"}, report.text()
    assert {cell.detail for cell in report.cells} == {""}
    exacts = Counter(backend for backend, task, _ in workers.asked if task == "exact")
    assert exacts == {"torch": 12, "jax": 12, "tensorflow": 12}


def test_where_none_has_values_in_float64_backends_are_compared_with_each_other():
    def shifted(backend, y, x, **options):
        value = ran(y, x, **options)
        return {**value, "value": value["value"] + (backend == "jax")}

    workers = Written(run=shifted)  # and no exact
    report = check(workers, ["tensorflow", "jax", "torch"], checks=["value"])
    assert [(cell.check, cell.backend) for cell in report.failures] == [("value", "jax")]
    assert report.failures[0].detail == "value differs from that of the other backends"
    alone = check(workers, ["jax"], checks=["value"])
    (cell,) = (cell for cell in alone.cells if cell.check == "value")
    assert cell.status == "not checked"
    assert "no value in float64: not run" in cell.detail


def test_two_truths_with_as_many_for_them_are_none():
    """Two backends differ, each agrees with itself in float64."""

    def twice(backend, y, x, **_):
        value = ran(y, x, gradient=False)
        return {**value, "value": value["value"] * (1 + (backend == "jax"))}

    def exact_twice(backend, y, x, **_):
        return exact(y, x)._replace(value=exact(y, x).value * (1 + (backend == "jax")))

    workers = Written(run=twice, exact=exact_twice)
    report = check(workers, ["jax", "torch"], checks=["value"])
    assert {(cell.check, cell.backend) for cell in report.failures} == {("value", "jax"), ("value", "torch")}
    assert report.failures[0].detail == "value differs from that of torch: without an oracle, either may be wrong"


def test_a_reply_of_the_first_requests_is_not_asked_for_again():
    """The batches of checks of values come first, and those of other checks after them."""
    workers = Written(run=ran, exact=exact)
    check(workers, checks=["value", "reduction", "determinism"])
    tasks = workers.tasks()
    assert tasks[0] == "describe"
    assert set(tasks[1:13]) == {"run"}
    assert set(tasks[13:25]) == {"exact"}
    # Three reductions. The values of rows are among the first requests.
    assert Counter(tasks[25:]) == {"run": 3, "repeat": 1}


def test_rows_that_are_not_asked_for_are_not_in_the_report():
    workers = Written(run=ran, exact=exact)
    report = check(workers, checks=["mask", "value"], skip=["value"])
    assert [cell.check for cell in report.cells] == ["runs", "mask"]
    assert {cell.check for cell in check(workers, skip=["save", "runs"]).cells} == {*CHECKS} - {"save", "runs"}
