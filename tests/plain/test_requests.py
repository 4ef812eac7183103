"""What the workers are asked, by workers that only write it down."""

import sys
from typing import ClassVar

import pytest

from multiloss.check import check_loss
from multiloss.check.pool import Reply


class Written:
    """Stands in for `Workers` and for each worker: a plain function without modes of compiling."""

    python, restarts = sys.executable, 0
    described: ClassVar = {"loss": True, "modes": ["eager"], "versions": "", "from_logits": False, "takes_dtype": False}

    def __init__(self):
        self.asked = []

    def get(self, *_):
        return self

    def ask(self, task, /, **arguments):
        self.asked.append((task, arguments))
        return Reply("done", self.described) if task == "describe" else Reply("error", message="not run")


@pytest.mark.parametrize("check", ["config", "save", "fit", "determinism"])
def test_a_check_of_one_batch_asks_nothing_else(check):
    """The values in float64, of which there are hundreds, serve values and gradients only."""
    workers = Written()
    check_loss("my:loss", inputs="regression", backends={"torch": sys.executable}, checks=[check], workers=workers)
    assert [task for task, _ in workers.asked] == ["describe", check.replace("determinism", "repeat")]


@pytest.mark.parametrize("check", ["value", "gradient"])
def test_values_and_gradients_ask_for_every_case_once(check):
    workers = Written()
    with pytest.raises(ValueError, match=r"fails on \(y_true, y_pred\) of shapes"):  # as all of its answers are errors
        check_loss("my:loss", inputs="regression", backends={"torch": sys.executable}, checks=[check], workers=workers)
    shapes = [arguments["x"].shape for task, arguments in workers.asked if task == "run"]
    assert shapes == [(6, 3)] * 6 + [(2, 65_600), (6, 3), (2, 3), (1, 3), (0, 3)]
    assert sum(task == "exact" for task, _ in workers.asked) == 9  # neither of the large case nor of the empty one
