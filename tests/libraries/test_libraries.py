"""The losses of Keras and of libraries for it: the checker finds their faults, and raises no false alarm.

Only in `tox -e libraries`, which installs the libraries.
"""

import importlib
import inspect
from pathlib import Path

import pytest
from libraries import FAULTS, LIBRARIES

from multiloss.check import Workers, check_loss

LOSSES = [(library, name) for library, losses in LIBRARIES.items() for name in losses]
# library -> the module of its losses, and those that are base classes. keras-hub has no such module.
MODULES = {
    "keras": ("keras.losses", {"Loss"}),
    "keras-cv": ("keras_cv.losses", set()),
    "keras-rs": ("keras_rs.losses", set()),
    "medicai": ("medicai.losses", {"BaseDiceLoss"}),
}


@pytest.fixture(scope="module")
def workers():
    with Workers() as kept:
        yield kept


@pytest.mark.parametrize(("library", "name"), LOSSES, ids=[f"{library}/{name}" for library, name in LOSSES])
def test_what_fails_is_a_fault_that_was_examined(library, name, workers, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])  # inputs are named from there
    loss = LIBRARIES[library][name]
    report = check_loss(loss.target, loss.oracle, inputs=loss.inputs, search=loss.search, workers=workers)
    failing = {cell.check for cell in report.failures}
    faults = [fault for fault in FAULTS if fault.concerns(library, name)]
    assert failing <= {check for fault in faults for check in fault.checks}, report.text()
    assert all(failing & set(fault.checks) for fault in faults), report.text()  # each is found, in one row at least


@pytest.mark.parametrize("library", MODULES)
def test_every_public_loss_is_checked(library):
    module, bases = MODULES[library]
    losses = vars(importlib.import_module(module))
    public = {name for name, item in losses.items() if inspect.isclass(item) and not name.startswith("_")} - bases
    assert public == {name.partition(",")[0] for name in LIBRARIES[library]}
