"""Import modules once Keras is there, without importing it.

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


def load(modules: Sequence[str]) -> None:
    """Import `modules` now if Keras has been imported, else right after it has."""
    if "keras" in sys.modules:
        for module in modules:
            importlib.import_module(module)
    else:
        sys.meta_path.insert(0, _KerasFinder(modules))


class _KerasFinder:
    def __init__(self, modules: Sequence[str]):
        self.modules = modules

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "keras":
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_then_load(module: ModuleType) -> None:
                execute(module)
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                # If a module that the losses stand on is what is importing Keras, they cannot be imported before it is
                # done. Its importer wants that module, and gets it.
                if not {"multiloss.checks", "multiloss.losses"} & sys.modules.keys():
                    load(self.modules)

            spec.loader.exec_module = execute_then_load  # type: ignore[method-assign]
        return spec
