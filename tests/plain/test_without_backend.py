"""Keras without a backend, as in the environment that this is run in, and no Keras at all: what works, what is said."""

import subprocess
import sys

import pytest

from multiloss import _backends
from multiloss._backends import BACKENDS, MissingBackendError, installed

NEED = "the losses of multiloss need Keras and one of its backends. "
NONE = "Installed of tensorflow, jax, torch: none. Try: pip install "
# What hides Keras, installed or not: an import of it fails as if it were not there.
HIDE = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "keras":
            raise ModuleNotFoundError("No module named 'keras'", name="keras")
sys.meta_path.insert(0, Hide())
"""
SAID = {
    "tensorflow": f"{NEED}Keras looked for tensorflow, which is not installed (KERAS_BACKEND=tensorflow). "
    f'{NONE}"multiloss[tensorflow]"',
    "jax": f'{NEED}Keras looked for jax, which is not installed (KERAS_BACKEND=jax). {NONE}"multiloss[jax]"',
    "": f"{NEED}Keras looked for tensorflow, which is not installed (KERAS_BACKEND is not set, keras.json or its "
    f'default counts). {NONE}"multiloss[tensorflow]"',
    "mxnet": f"{NEED}Keras raised ValueError: Unable to import backend : mxnet (KERAS_BACKEND=mxnet). "
    f'{NONE}"multiloss[jax]"',
    "hidden": f'{NEED}Keras is not installed. {NONE}"multiloss[jax]"',
}


def run(program, setting, tmp_path):
    """What a program prints. Keras writes its settings down at the first import: not to the user's own."""
    environment = {"KERAS_HOME": str(tmp_path), **({"KERAS_BACKEND": setting} if setting not in ("", "hidden") else {})}
    program = (HIDE if setting == "hidden" else "") + program
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_backend_is_installed_here():
    """`tox -e plain` has none: with one, there would be other messages than below."""
    assert [backend for backend in BACKENDS if installed(backend)] == []


@pytest.mark.parametrize("setting", SAID)
def test_what_is_missing_is_said_where_a_loss_is_first_used(setting, tmp_path):
    program = """
import inspect
import multiloss
print(hasattr(multiloss, "DiceLoss"), hasattr(multiloss, "encode_ids"), len(inspect.getmembers(multiloss)) > 5)
for statement in ("multiloss.dice_loss()", "from multiloss import dice_loss", "import multiloss.losses",
                  "import multiloss.distribution"):
    try:
        exec(statement)
    except Exception as error:
        print(type(error).__name__, error)
try:
    from multiloss import triplet
except ImportError as error:
    print(str(error).partition(" (")[0])
"""
    kinds = ["AttributeError", *["MissingBackendError"] * 3]
    assert run(program, setting, tmp_path).splitlines() == [
        "False True True",
        *(f"{kind} {SAID[setting]}" for kind in kinds),
        "cannot import name 'triplet' from 'multiloss'",
    ]


def test_a_backend_that_is_installed_is_proposed(monkeypatch):
    monkeypatch.setattr(_backends, "installed", lambda backend: backend == "torch")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    error = MissingBackendError(ModuleNotFoundError("No module named 'jax'", name="jax"))
    assert str(error).endswith(
        'Installed of tensorflow, jax, torch: torch. Try: pip install "multiloss[jax]", or KERAS_BACKEND=torch, set '
        "before Keras is imported"
    )
    monkeypatch.setenv("KERAS_BACKEND", "mxnet")
    error = MissingBackendError(ValueError("Unable to import backend : mxnet"))
    assert str(error).endswith("torch: torch. Try: KERAS_BACKEND=torch, set before Keras is imported")


def test_oracles_and_ids_import_no_keras(tmp_path):
    program = "import sys, multiloss.oracles; multiloss.oracles.dice_coef([1], [1]); multiloss.encode_ids(['a'])"
    assert run(f"{program}; print('keras' in sys.modules)", "jax", tmp_path) == "False\n"
