"""The contents that the text and the HTML page share: verdict, failures that are one fault, and sections."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from multiloss.check.report.cells import KINDS, Cell
from multiloss.check.report.known import BACKENDS

LONGEST = 200  # characters of a message; the JSON report has all of them
_NAMED = 3  # names in a list before "and 4 more"
# kind -> the headline of a failure, and the verdict's words
_HEADLINES = {
    "wrong": ("wrong numbers", "gives wrong numbers"),
    "crash": ("crash", "crashes"),
    "nan": ("NaN or infinity", "gives NaN or infinity"),
    "setting": ("a setting gets lost", "loses settings"),
    "": ("", "fails"),
    "unexpected pass": ("listed as a known failure", "passes where a failure is known"),
}
_ANSI = re.compile(r"\x1b\[[\d;]*[A-Za-z]")
_RAISED = re.compile(r"\w*(Error|Exception)\b")
Item = TypeVar("Item")
Key = TypeVar("Key")


@dataclass(frozen=True)
class Finding:
    """Failures that are one fault to a reader: of the same check and kind, or by the same exception in several checks.

    Attributes:
        cells: the failures, the worst first.
        backends: all backends of the report.
    """

    cells: tuple[Cell, ...]
    backends: tuple[str, ...]

    @property
    def worst(self) -> Cell:
        """The cell whose numbers, batch and command are shown."""
        return self.cells[0]

    @property
    def where(self) -> str:
        """The checks and backends: "value, gradient (jax)"."""
        return places(self.cells, self.backends, every="every backend")

    @property
    def headline(self) -> str:
        """The checks and backends, and what the failure is."""
        return ": ".join(filter(None, (self.where, _HEADLINES[_kind(self.worst)][0])))

    def messages(self) -> list[str]:
        """Return each different message once, with its backends if there are several."""
        groups = list(_grouped(self.cells, lambda cell: _exception(cell.detail)).values())
        if len(groups) == 1:
            return [text for text in (_common(groups[0]),) if text]
        return [f"{', '.join(_backends(group))}: {_common(group)}" for group in groups]

    def figures(self, seed: int) -> str:
        """Return "error 0.1, tolerance 1e-05 (ratio 1e+04), case 'ties', seed 0", of the worst cell."""
        cell, parts = self.worst, []
        if cell.error is not None:
            parts.append(f"error {cell.error:.3g}")
        if cell.tolerance is not None:
            parts.append(f"tolerance {cell.tolerance:.3g}")
        if cell.ratio is not None:
            parts[-1] += f" (ratio {cell.ratio:.2g})"
            parts[0] = f"{cell.backend}: {parts[0]}" if len(self.cells) > 1 else parts[0]
        if cell.case is not None:
            parts.append(f"case '{cell.case}'")
        return plain(", ".join([*parts, f"seed {seed}"]))


@dataclass(frozen=True)
class Contents:
    """The contents of a report, in the order in which a page shows them.

    Attributes:
        ok: whether the report is ok.
        verdict: one line.
        backends: the columns of the table.
        rows: for every check, its cell on every backend.
        findings: the failures, the worst first.
        sections: title and entries; only a note may have several lines.
        facts: name and value.
        target: the loss, as it was named.
        seed: the seed of the inputs.
        command: the command that made it.
    """

    ok: bool
    verdict: str
    backends: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Cell]]
    findings: Sequence[Finding]
    sections: Sequence[tuple[str, list[str]]]
    facts: Sequence[tuple[str, str]]
    target: str
    seed: int
    command: str = "check"


def number(value: float | None) -> float | str | None:
    """Return a number for JSON, which has no infinities and no NaN: these as text."""
    return None if value is None else float(value) if math.isfinite(value) else str(float(value))


def verdict(target: str, cells: Sequence[Cell], backends: Sequence[str], counted: Callable[[Cell], bool]) -> str:
    """Return the result in one line.

    Args:
        target: the loss, as it was named.
        cells: all cells.
        backends: the backends that were started.
        counted: whether a failing cell makes the report fail.
    """
    failing = [cell for cell in cells if cell.failing and counted(cell)]
    passing = [cell for cell in cells if cell.status == "pass"]
    name = plain(target)
    if failing:
        faults = [
            f"{_HEADLINES[kind][1]} on {_on(group, backends)} ({_named(_checks(group))})"
            for kind, group in _grouped(sorted(failing, key=_severity), _kind).items()
        ]
        line = f"FAILS: {name} {', and '.join([', '.join(faults[:-1]), faults[-1]] if faults[1:] else faults)}."
    elif not any(cell.status in ("pass", "fail", "known", "unexpected pass") for cell in cells):
        line = f"NOTHING WAS CHECKED: {name}."
    else:
        whole = set(_checks(passing)) - {cell.check for cell in cells if cell.failing}
        count = f"{len(whole)} check{'s' if len(whole) != 1 else ''}"
        line = f"OK: {name} passes {count} on {_and(_backends(passing) or list(backends))}."
    more = {
        "Failures that do not count": [cell for cell in cells if cell.failing and not counted(cell)],
        "Known failures": [cell for cell in cells if cell.status == "known"],
        "Not checked": [cell for cell in cells if cell.status == "not checked" and not failing],
    }
    return " ".join([line, *(f"{title}: {_named(_checks(some))}." for title, some in more.items() if some)])


def findings(failing: Iterable[Cell], backends: tuple[str, ...], counted: Callable[[Cell], bool]) -> list[Finding]:
    """Return the failures, merged, and ordered: those that count, by kind, by error / tolerance."""
    ordered = sorted(failing, key=lambda cell: (not counted(cell), *_severity(cell)))
    merged: dict[tuple[str, str, frozenset[str]], list[Cell]] = {}
    for (check, kind), cells in _grouped(ordered, lambda cell: (cell.check, _kind(cell))).items():
        raised = frozenset(_exception(cell.detail) for cell in cells) if kind == "crash" else frozenset()
        # The same exception, in another check.
        same = next((key for key in merged if raised and raised <= key[2]), (check, kind, raised))
        merged.setdefault(same, []).extend(cells)
    return [Finding(tuple(cells), backends) for cells in merged.values()]


def sections(
    cells: Sequence[Cell], backends: Sequence[str], unchecked: Mapping[str, str], notes: Iterable[str]
) -> list[tuple[str, list[str]]]:
    """Return what is below the failures; checks that share a reason share a line.

    Args:
        cells: all cells.
        backends: the backends that were started.
        unchecked: for every backend that was not started, the reason.
        notes: further results.
    """
    titles = {
        "known": "Known failures",
        "pass": "Remarks on checks that pass",
        "not applicable": "Not applicable (-)",
        "not checked": "Not checked (?)",
    }
    found: dict[str, list[str]] = {title: [] for title in (*titles.values(), "Notes")}
    told = [cell for cell in cells if cell.status in titles and (cell.status != "pass" or cell.detail)]
    for (status, _), group in _grouped(told, lambda cell: (cell.status, _key(cell.detail))).items():
        found[titles[status]].append(f"{places(group, backends)}: {_common(group)}".removesuffix(": "))
    found["Not checked (?)"] += [f"{backend}: {brief(reason)}" for backend, reason in unchecked.items()]
    found["Notes"] += ["\n".join(map(plain, note.splitlines())) for note in notes]
    return [(title, entries) for title, entries in found.items() if entries]


def places(cells: Iterable[Cell], backends: Sequence[str], every: str = "") -> str:
    """Return checks and backends: "value, gradient (jax), mask"; `every` stands for more than one and all backends."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for check, group in _grouped(cells, lambda cell: cell.check).items():
        rows.setdefault(tuple(b for b in backends if b in _backends(group)), []).append(check)
    parts = []
    for some, checks in rows.items():
        where = every if len(some) == len(backends) and (len(some) > 1 or not every) else ", ".join(some)
        parts.append(", ".join(checks) + (f" ({where})" if where else ""))
    return plain(", ".join(parts))


def brief(message: str, longest: float = LONGEST) -> str:
    """Return the first line of a message that says what is wrong, shortened to so many characters.

    Keras puts "Exception encountered when calling ..." before it, and TensorFlow "in user code:" and a traceback.
    """
    lines = [line.strip() for line in _ANSI.sub("", message).splitlines() if line.strip()] or [""]
    first, rest = lines[0], lines[1:]
    if first.endswith(("in user code:", "Traceback (most recent call last):")) and rest:
        first = next((line for line in reversed(rest) if _RAISED.match(line)), rest[-1])
        rest = rest[rest.index(first) + 1 :]
    before, calling, _ = first.partition("Exception encountered when calling")
    if calling and rest:
        first, rest = before + rest[0], rest[1:]
    while first.endswith((":", ",")) and rest:  # goes on in the next line
        first, rest = f"{first} {rest[0]}", rest[1:]
    text = plain(first)
    if len(text) <= longest:
        return text
    cut = text[: int(longest) - 2]
    return (cut.rpartition(" ")[0] or cut) + " …"


def plain(text: str) -> str:
    """Return text without line breaks and without characters that a terminal or XML parser may reject."""
    return "".join(c if c.isprintable() else " " for c in text)


def _kind(cell: Cell) -> str:
    return cell.status if cell.status == "unexpected pass" else cell.kind


def _severity(cell: Cell) -> tuple[int, float]:
    """Return a key for sorting: by kind, then by error / tolerance, where what is not finite comes first."""
    kinds = (*KINDS, "")
    place = kinds.index(cell.kind) if cell.status == "fail" else len(kinds)
    ratio = -1.0 if cell.ratio is None else cell.ratio
    return place, -ratio if ratio == ratio else float("-inf")


def _key(detail: str) -> str:
    """Return a message in which no backend is named: messages with equal keys are the same."""
    return _word(BACKENDS).sub("", brief(detail))


def _exception(detail: str) -> str:
    """Return `_key` from the name of the exception on, without what was run: "jit: ValueError: ..."."""
    raised = _RAISED.search(key := _key(detail))
    return key[raised.start() :] if raised else key


def _word(names: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of backends' names where they are words: not in `torch.Tensor`."""
    return re.compile(rf"(?<![\w.'/-])({'|'.join(map(re.escape, names))})(?![\w'/-]|\.\w)")


def _common(cells: Sequence[Cell]) -> str:
    """Return the message of cells with equal keys; if each names its own backend, "each backend" instead."""
    texts = dict.fromkeys(brief(cell.detail) for cell in cells)
    own = {_word([cell.backend]).sub("each backend", brief(cell.detail)) for cell in cells}
    return own.pop() if len(texts) > 1 and len(own) == 1 else next(iter(texts))


def _grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _checks(cells: Iterable[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.check for cell in cells))


def _backends(cells: Iterable[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.backend for cell in cells))


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return plain(", ".join(names) if more <= 1 else f"{', '.join(names[:_NAMED])} and {more} more")


def _on(cells: Iterable[Cell], backends: Sequence[str]) -> str:
    named = [backend for backend in backends if backend in _backends(cells)]
    return "every backend" if 1 < len(named) == len(backends) else _and(named)


def _and(names: Sequence[str]) -> str:
    return plain(" and ".join(filter(None, (", ".join(names[:-1]), *names[-1:]))))
