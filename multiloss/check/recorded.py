"""Records of what a backend computed, for another machine, version or day: numbers and text in an `.npz`, no pickles.

A record is a tree of dicts, lists, tuples, text, numbers and arrays. The arrays are those of the file, and `header`, a
text, has the tree as JSON, in which each array is named, beside the schema and the kind of the record.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from multiloss.check.targets import TargetError

SCHEMA = 1


def check(path: str | Path) -> None:
    """Raise a TargetError for a path that does not end in ".npz", or is in no folder that exists."""
    if Path(path).suffix != ".npz" or not Path(path).absolute().parent.is_dir():
        raise TargetError(f"`record` must be an .npz file in a folder that exists. Received: {str(path)!r}")


def write(path: str | Path, kind: str, content: Any) -> None:
    """Write a record to a path that `check` has seen. An older record stays until the new one is whole."""
    place = Path(path)
    arrays: dict[str, np.ndarray] = {}
    header = json.dumps({"schema": SCHEMA, "kind": kind, "content": _packed(content, arrays)})
    parts: dict[str, Any] = {"header": np.array(header), **arrays}
    unfinished = place.with_name(f".{place.name}.part")
    try:
        with open(unfinished, "wb") as file:
            np.savez_compressed(file, **parts)
        unfinished.replace(place)
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: str | Path, kind: str) -> Any:
    """Return the content of a record.

    Raises:
        TargetError: if it is no record, a damaged one, of another schema or another kind.
    """
    header, arrays = _header(path)
    if header["kind"] != kind:
        raise TargetError(f"`against` {path} must be a record of a {kind}. Received: a record of a {header['kind']}")
    try:
        return _unpacked(header["content"], arrays)
    except (KeyError, ValueError, TypeError) as error:
        raise damaged(path, error) from None


def _header(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header of a record and its arrays."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(str(arrays.pop("header")))
        schema, _ = header["schema"], header["kind"]
    except FileNotFoundError:
        raise TargetError(f"`against` must be a file that exists. Received: {str(path)!r}") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise TargetError(f"`against` {path} is no record, or a damaged one: {type(error).__name__}: {error}") from None
    if schema != SCHEMA:
        raise TargetError(f"`against` {path} must be a record of schema {SCHEMA}. Received: schema {schema}")
    return header, arrays


def kind(path: str | Path) -> str:
    """Return the kind of a record; errors are those of `read`."""
    return str(_header(path)[0]["kind"])


def column(path: str | Path, backend: str) -> str:
    """Return what a report calls a backend of a record."""
    return f"{Path(path).stem}:{backend}"


def damaged(path: str | Path, error: Exception) -> TargetError:
    """Return the error of a record whose content is not what it should be."""
    return TargetError(f"`against` {path} is a damaged record: {type(error).__name__}: {error}")


def _packed(item: Any, arrays: dict[str, np.ndarray]) -> list[Any]:
    if item is None or isinstance(item, bool | int | str):
        return ["is", item]
    if isinstance(item, np.ndarray | np.generic | float):
        array = np.asarray(item)
        if array.dtype.kind not in "biufc":
            raise TypeError(f"a record cannot hold {array.dtype}")
        name = f"a{len(arrays)}"
        arrays[name] = array
        return ["float" if isinstance(item, float) else "array", name]
    if isinstance(item, dict):
        return ["dict", [[_packed(key, arrays), _packed(part, arrays)] for key, part in item.items()]]
    if isinstance(item, list | tuple):
        return ["list" if isinstance(item, list) else "tuple", [_packed(part, arrays) for part in item]]
    raise TypeError(f"a record cannot hold {type(item).__name__}")


def _unpacked(form: list[Any], arrays: dict[str, np.ndarray]) -> Any:
    what, inside = form
    if what == "is":
        return inside
    if what in ("array", "float"):
        return float(arrays[inside]) if what == "float" else arrays[inside]
    if what == "dict":
        return {_unpacked(key, arrays): _unpacked(part, arrays) for key, part in inside}
    if what in ("list", "tuple"):
        parts = [_unpacked(part, arrays) for part in inside]
        return parts if what == "list" else tuple(parts)
    raise ValueError(f"unknown part {what!r}")
