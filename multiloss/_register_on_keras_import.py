"""Imports the losses right after Keras is imported, and explains a failed import of Keras.

Keras can load a saved loss only if the module that registers it was imported. `import multiloss` must ensure this for
users who load a model, without importing Keras and a backend for users of the NumPy oracles or the pytest plugin. So
the import of the losses waits for that of Keras.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from multiloss._backends import MissingBackendError

_PACKAGE = "multiloss"


def load(modules: Sequence[str]) -> None:
    """Import `modules` now if Keras is already imported, otherwise right after its import."""
    if "keras" in sys.modules:
        for module in modules:
            importlib.import_module(module)
    else:
        sys.meta_path.insert(0, _Finder(modules))


class _Finder:
    """Watches imports of Keras and of multiloss, until Keras is imported and the outermost import has finished.

    The losses cannot be imported earlier, since Keras may be imported by a module that they depend on.
    """

    def __init__(self, modules: Sequence[str]):
        self.modules = modules
        self.depth = 0  # the number of nested imports in progress
        self.failure: Exception | None = None  # the last error from the import of Keras

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        package, _, rest = name.partition(".")
        if name != "keras" and package != _PACKAGE:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is None and rest in sys.modules[_PACKAGE].__all__:
            # `from multiloss import DiceLoss`, after the attribute was not found: raise the error that explains why.
            importlib.import_module(self.modules[0])
        if spec is not None and spec.loader is not None:
            spec.loader = _Watched(spec.loader, self, name)
        return spec

    def imported(self, loader: Any, name: str, module: ModuleType) -> None:
        """Execute a module, and import the losses once that of Keras is done."""
        self.depth += 1
        try:
            loader.exec_module(module)
        except Exception as error:  # any failure is inspected and raised again
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


class _Watched(Loader):
    """The loader of one module, until it executes it. It is no attribute of the loader: pytest has one for all."""

    def __init__(self, loader: Any, finder: _Finder, name: str):
        self.loader, self.finder, self.name = loader, finder, name

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self.loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.finder.imported(self.loader, self.name, module)

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self.loader, name)
