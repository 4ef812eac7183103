"""Import the losses once Keras is there, without importing it; say what is missing where Keras cannot be imported.

Keras can load a saved loss only after the module that registers it was imported. Whoever writes `import multiloss` and
loads a model expects just that, while whoever wants the NumPy oracles, or collects tests with a plugin, must not pay
for Keras and a backend. Hence the wait.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from multiloss._backends import MissingBackendError

_PACKAGE = "multiloss"


def load(modules: Sequence[str]) -> None:
    """Import `modules` now if Keras has been imported, else right after it has."""
    if "keras" in sys.modules:
        for module in modules:
            importlib.import_module(module)
    else:
        sys.meta_path.insert(0, _Finder(modules))


class _Finder:
    """Watch imports of Keras and of our own modules, until Keras is imported and the outermost of them is done.

    The losses cannot be imported any earlier: what is importing Keras may be a module that they stand on.
    """

    def __init__(self, modules: Sequence[str]):
        self.modules = modules
        self.depth = 0  # how many of the imports that are watched are going on, one within another
        self.failure: Exception | None = None  # the last of Keras

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        package, _, rest = name.partition(".")
        if name != "keras" and package != _PACKAGE:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is None and rest in sys.modules[_PACKAGE].__all__:
            # `from multiloss import DiceLoss`, where `multiloss.DiceLoss` was no attribute: an error that says why.
            importlib.import_module(self.modules[0])
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def watched(module: ModuleType) -> None:
                self.depth += 1
                try:
                    execute(module)
                except Exception as error:  # whatever fails in the import of Keras: it is looked at, and raised again
                    if name == "keras":
                        self.failure = error
                    elif error is self.failure or getattr(error, "name", None) == "keras":
                        raise MissingBackendError(error) from error
                    raise
                finally:
                    self.depth -= 1
                if not self.depth and "keras" in sys.modules and self in sys.meta_path:
                    sys.meta_path.remove(self)
                    load(self.modules)

            spec.loader.exec_module = watched  # type: ignore[method-assign]  # of this spec alone
        return spec
