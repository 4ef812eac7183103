"""What backends computed of a model, in a file, for a comparison on another machine, with other versions, or later."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from multiloss.check import recorded
from multiloss.check.models.stages import Call

KIND = "model"
RECORDED = ("forward", "train", "forward, wide", "train, wide")  # the results that a record holds
_NUMBERS = ("seed", "batch_size", "steps")


class Record(NamedTuple):
    """A record that was read.

    Attributes:
        path: of the file.
        build: the model, as it was named.
        data: the data, as they were named.
        numbers: `seed`, `batch_size` and `steps`.
        described: the description of the model, its weights and batches among it.
        versions: column, which names the file and the backend -> versions.
        replies: column -> results by their names in `RECORDED`.
    """

    path: str
    build: str
    data: str
    numbers: dict[str, int]
    described: dict[str, Any]
    versions: dict[str, str]
    replies: dict[str, dict[str, Any]]


def write(
    path: str | Path,
    build: str,
    data: str,
    numbers: Mapping[str, int],
    described: Mapping[str, Any],
    versions: Mapping[str, str],
    replies: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write a record; the arguments are the attributes of `Record`, with backends for columns."""
    kept = {
        backend: {name: _without_repeats(result) for name, result in some.items()} for backend, some in replies.items()
    }
    content = {"build": build, "data": data, "numbers": dict(numbers), "described": dict(described)}
    recorded.write(path, KIND, {**content, "versions": dict(versions), "replies": kept})


def read(path: str | Path) -> Record:
    """Return a record.

    Raises:
        TargetError: as `recorded.read`.
    """
    content = recorded.read(path, KIND)
    try:
        columns = {backend: recorded.column(path, backend) for backend in content["replies"]}
        replies = {
            columns[backend]: {name: _with_calls(result) for name, result in some.items()}
            for backend, some in content["replies"].items()
        }
        versions = {columns[backend]: content["versions"][backend] for backend in columns}
        numbers = {name: content["numbers"][name] for name in _NUMBERS}
        return Record(str(path), content["build"], content["data"], numbers, content["described"], versions, replies)
    except (KeyError, TypeError, AttributeError) as error:
        raise recorded.damaged(path, error) from None


def _ways(result: Any) -> list[str]:
    return [way for way in ("inference", "training") if way in result]


def _without_repeats(result: Any) -> Any:
    """Return a result without the second run, which is for the backend itself."""
    if "run" in result:
        return {**result, "again": None}
    return {way: {**result[way], "again": []} for way in _ways(result)}


def _with_calls(result: Any) -> Any:
    if "run" in result:
        return {**result, "again": result["run"]}
    return {way: {**result[way], "calls": [Call(*call) for call in result[way]["calls"]]} for way in _ways(result)}
