"""The supported backends of Keras: which are installed, and how to install a missing one."""

import importlib.util
import os

BACKENDS = ("tensorflow", "jax", "torch")
# Packages that differ from the backend's name. Keras's NumPy backend imports JAX.
_PACKAGES = {"numpy": "jax"}


def installed(backend: str) -> bool:
    """Return whether the package of a backend is installed, without importing it."""
    return importlib.util.find_spec(_PACKAGES.get(backend, backend)) is not None


def how_to_install(backend: str) -> str:
    """Return the command that installs a backend."""
    extra = backend in BACKENDS
    return "pip install " + (f'"multiloss[{backend}]"' if extra else _PACKAGES.get(backend, backend))


class MissingBackendError(ImportError):
    """Keras or its selected backend could not be imported.

    Args:
        error: the error that the import of Keras raised.
    """

    def __init__(self, error: Exception):
        here = [backend for backend in BACKENDS if installed(backend)]
        chosen = os.environ.get("KERAS_BACKEND")
        missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        if missing == "keras":
            problem = "Keras is not installed"
        else:
            setting = (
                f"KERAS_BACKEND={chosen}" if chosen else "KERAS_BACKEND is not set, keras.json or its default counts"
            )
            found = (
                f"looked for {missing}, which is not installed"
                if missing
                else f"raised {type(error).__name__}: {error}"
            )
            problem = f"Keras {found} ({setting})"
        wanted = next((name for name in (chosen, missing) if name in BACKENDS), here[0] if here else "jax")
        advice = [how_to_install(wanted)] * (missing == "keras" or wanted not in here)
        advice += [f"KERAS_BACKEND={backend}, set before Keras is imported" for backend in here[:1]]
        super().__init__(
            f"the losses of multiloss need Keras and one of its backends. {problem}. "
            f"Installed of {', '.join(BACKENDS)}: {', '.join(here) or 'none'}. Try: {', or '.join(advice)}"
        )
