"""Targets of the checks: `module:attribute` or `path.py:attribute`, followed by a call if there are arguments."""

import ast
import functools
import importlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


class TargetError(ValueError):
    """A target cannot be loaded; the message says what was expected and what was received."""


def resolve(target: str) -> Any:
    """Return the object that a target names.

    Args:
        target: `module:attribute` or `path.py:attribute`. Attributes may have dots, and a call may follow, as in
            `multiloss:dice_loss(smooth=1e-5, thresh=0.5)`: a Python expression, evaluated in the namespace of the
            module. A call without all required arguments, as `multiloss:dice(mode="multiclass")`, binds those given.

    Raises:
        TargetError: if the string has another form, the module cannot be imported, or the attribute or call fails.
    """
    place, colon, text = target.partition(":")
    if not (place and colon and text.strip()):
        raise TargetError(f"a target must be `module:attribute` or `path.py:attribute`. Received: {target!r}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise TargetError(f"`{text}` of {target!r} is not a Python expression: {error.msg}") from error
    module = _module(place)
    try:
        return _evaluate(tree, _Names(module))
    except TargetError:
        raise
    except (Exception, SystemExit) as error:  # user code may raise anything
        raise TargetError(f"{target!r} could not be evaluated: {type(error).__name__}: {error}") from error


class _Names(dict[str, Any]):
    """The namespace of a module, including names that its `__getattr__` provides."""

    def __init__(self, module: ModuleType):
        super().__init__(vars(module))
        self.module = module

    def __missing__(self, name: str) -> Any:
        try:
            return getattr(self.module, name)
        except AttributeError:
            raise KeyError(name) from None


def _evaluate(tree: ast.expr, names: _Names) -> Any:
    def value(node: ast.expr) -> Any:
        return eval(compile(ast.Expression(node), "<target>", "eval"), {}, names)

    if not isinstance(tree, ast.Call):
        return value(tree)
    function, arguments = value(tree.func), [value(node) for node in tree.args]
    named = {word.arg: value(word.value) for word in tree.keywords if word.arg}
    try:
        inspect.signature(function).bind(*arguments, **named)
    except TypeError as error:
        if "missing" not in str(error):
            raise
        return functools.partial(function, *arguments, **named)
    return function(*arguments, **named)


def _module(place: str) -> ModuleType:
    path = Path(place)
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        if not path.is_file():
            raise TargetError(f"no such file: {place}")
        name = f"_multiloss_target_{path.stem}"
        if name in sys.modules and getattr(sys.modules[name], "__file__", None) == str(path):
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        sys.path.insert(0, str(path.resolve().parent))  # a script can import its neighbours
        spec.loader.exec_module(module)
        return module
    except TargetError:
        raise
    except (Exception, SystemExit) as error:  # user code may raise anything
        sys.modules.pop(f"_multiloss_target_{path.stem}", None)
        raise TargetError(f"{place!r} could not be imported: {type(error).__name__}: {error}") from error


def _lost(instance: Any) -> list[str]:
    """Return the attributes with plain values that an instance loses in a round trip through its config."""
    try:
        again = vars(type(instance).from_config(instance.get_config()))
    except Exception as error:  # user code may raise anything
        raise TargetError(
            f"{type(instance).__name__} cannot be recreated from its `get_config`: {type(error).__name__}: {error}"
        ) from error
    plain = (bool, int, float, str, tuple, list, dict)

    def shown(value: Any) -> str:
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))  # addresses of contained objects differ

    return [
        f"`{name}`"
        for name, value in vars(instance).items()
        if isinstance(value, plain) and shown(value) != shown(again.get(name))
    ]


def text_of(target: Any) -> str:
    """Return the string of a target given as a string, a function, a class, or a Keras loss.

    Raises:
        TargetError: if another process cannot import it, as a lambda or a local function, or cannot recreate it: an
            instance that its config does not describe.
    """
    if isinstance(target, str):
        return target
    if isinstance(target, functools.partial):
        if target.args:
            raise TargetError("a `functools.partial` must bind arguments by name. Received positional arguments")
        named = ", ".join(f"{name}={value!r}" for name, value in target.keywords.items())
        return f"{text_of(target.func)}({named})"
    if hasattr(target, "get_config") and not inspect.isclass(target):
        text = f"{text_of(type(target))}.from_config({target.get_config()!r})"
        if lost := _lost(target):
            raise TargetError(
                f"{type(target).__name__} changes {', '.join(lost)} in a round trip through its `get_config`, so that "
                "another process cannot recreate this instance. Pass a string, such as 'path.py:MyLoss(factor=2.0)'"
            )
        return text
    name, home = getattr(target, "__qualname__", ""), getattr(target, "__module__", None)
    module = sys.modules.get(home or "")
    if not name or "<" in name or module is None:
        raise TargetError(
            "a target must be a string, or a function, class or Keras loss at the top level of a module, since another "
            f"process has to import it. Received: {target!r}"
        )
    file = getattr(module, "__file__", None)
    if home != "__main__" and (file is None or Path(file).with_name("__init__.py").exists()):
        return f"{home}:{name}"
    if file is None:
        raise TargetError(f"the module of {target!r} has no file that another process could import")
    return f"{Path(file).resolve()}:{name}"  # a script or a test, which cannot be imported by name elsewhere
