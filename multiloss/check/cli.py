"""The command `multiloss check`."""

import argparse
import dataclasses
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from multiloss import __version__
from multiloss._backends import BACKENDS, installed
from multiloss.check.checks import CHECKS
from multiloss.check.checks.metrics import METRIC_CHECKS
from multiloss.check.families import FAMILIES
from multiloss.check.job import CheckError
from multiloss.check.pool import TIMEOUT
from multiloss.check.report import KINDS
from multiloss.check.run import check_loss

_DESCRIPTION = """\
Check a Keras loss on every installed backend: its values and gradients, eager and compiled, in other dtypes, with
weights and masks, its config, and a step of `fit`. With --oracle, a NumPy function says what the values have to be;
without, they are compared with the loss's own values in float64 and on the other backends. A Keras metric has checks of
its own: among others, one update with all rows against batches of them, with weights, after a reset, in `evaluate`.

TARGET is `module:name` or `file.py:name`, followed by a call if there are arguments."""
_EPILOG = """examples:
  multiloss check keras.losses:Huber
  multiloss check "keras.losses:Dice(axis=(1, 2, 3))" --inputs masks --backends jax,torch
  multiloss check "multiloss:DiceLoss(mode='binary')" --oracle "multiloss.oracles:dice(mode='binary')" --inputs masks
  multiloss check my_losses.py:MyLoss --oracle my_oracles.py:my_loss --search 200 --html report.html

exit code: 0 if all checks pass, 1 if one fails (or a known failure passes), 2 if the loss could not be checked,
130 after Ctrl-C"""
# Options that `check_loss` has under the same name; those that are not given keep its defaults.
_PASSED = ("inputs", "seed", "known", "timeout", "memory", "search", "metric")
_EVERY = 10.0  # seconds between two lines of progress where there is no terminal


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `multiloss` with the given or the command line's arguments, and return its exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help()
        return 0
    progress = _Progress()
    try:
        fail_on = _kinds(given.fail_on)
        for option, path in {"--json": given.json, "--html": given.html}.items():
            if path and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
                raise ValueError(f"`{option}` must be a file in a folder that exists. Received: {path!r}")
        options: dict[str, Any] = {name: getattr(given, name) for name in _PASSED}
        options |= {"checks": _names(given.only), "skip": _names(given.skip)}
        report = check_loss(
            given.target,
            given.oracle,
            backends=_backends(given.backends, given.backend),
            progress=progress,
            **{name: value for name, value in options.items() if value is not None},
        )
        report = dataclasses.replace(report, fail_on=fail_on)
        progress.clear()
        print(report.text(color=sys.stdout.isatty(), failures=None if given.all_failures else 3))
        for path, text in ((given.json, report.json), (given.html, report.html)):
            if path:
                Path(path).write_text(text(), encoding="utf-8")
    except KeyboardInterrupt:
        progress.clear()
        print("multiloss check: interrupted", file=sys.stderr)
        return 130  # as shells have it: 128 + SIGINT
    except (Exception, SystemExit) as error:  # user code runs here too and may raise anything
        progress.clear()
        if given.debug:
            traceback.print_exc()
        named = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
        # The lines of our own errors are meant so.
        lines = str(error).splitlines() if isinstance(error, CheckError) else [" ".join(str(error).split())]
        print(f"multiloss check: {named}" + "\n".join(lines), file=sys.stderr)
        return 2
    return report.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="multiloss",
        description="Keras 3 losses, exact on every backend.",
        epilog="`multiloss check --help` has the options and examples.",
    )
    version: dict[str, Any] = {
        "action": "version",
        "version": f"multiloss {__version__}",
        "help": "show the version and exit",
    }
    parser.add_argument("--version", **version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    check = commands.add_parser(
        "check",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="check any Keras loss on every backend",
    )

    add = check.add_argument_group("what is checked").add_argument
    add(
        "target",
        metavar="TARGET",
        help="a loss or metric: a function, a class, an instance, or a call that returns one",
    )
    add("--oracle", metavar="TARGET", help="a NumPy function of (y_true, y_pred) that the loss must agree with")
    add(
        "--inputs",
        metavar="INPUTS",
        help=f"the batches: {', '.join(FAMILIES)}; an .npz file; a function of a seed; "
        "or shapes, as in 'y: int[B] in 0..3, x: prob[B, 3]' (default: guessed from the name of the loss)",
    )
    add(
        "--metric",
        action="store_true",
        default=None,
        help="TARGET is a function for compile(metrics=...); a keras.metrics.Metric is recognised without",
    )
    add("--seed", type=int, metavar="N", help="seed of the random inputs (default: 0)")

    add = check.add_argument_group("where it is checked").add_argument
    add("--backends", metavar="NAMES", help="separated by commas (default: all installed)")
    add(
        "--backend",
        metavar="NAME=PYTHON",
        action="append",
        default=[],
        help="run a backend in another Python, in addition to --backends; repeatable",
    )
    add("--timeout", type=float, metavar="SECONDS", help=f"limit for one request to a backend (default: {TIMEOUT:g})")
    add("--memory", type=float, metavar="GIB", help="limit for what one request to a backend allocates (default: 2)")

    add = check.add_argument_group("which checks run").add_argument
    add(
        "--only",
        metavar="CHECKS",
        action="append",
        help=f"separated by commas, repeatable; of {', '.join(CHECKS)}; of a metric {', '.join(METRIC_CHECKS)}",
    )
    add("--skip", metavar="CHECKS", action="append", help="all but these; separated by commas, repeatable")
    add("--search", type=int, metavar="N", help="draw N more batches and show the smallest one that fails")

    add = check.add_argument_group("what makes it fail").add_argument
    add("--known", metavar="FILE", help="known failures, one `CHECK [BACKEND]` per line; one that passes is a failure")
    add(
        "--fail-on",
        metavar="KINDS",
        default=",".join(KINDS),
        help="kinds of failures that give exit code 1, separated by commas; others are only shown: wrong (numbers), "
        "crash, nan, setting (one that gets lost) (default: all)",
    )

    add = check.add_argument_group("what is written").add_argument
    add("--all-failures", action="store_true", help="show all failures instead of the three worst")
    add("--json", metavar="FILE", help="write the report as JSON")
    add("--html", metavar="FILE", help="write the report as an HTML page with plots")
    add("--debug", action="store_true", help="show the traceback if the loss could not be checked")
    add("--version", **version)
    return parser


def _names(given: Sequence[str] | None) -> list[str] | None:
    return None if given is None else [name.strip() for names in given for name in names.split(",")]


def _kinds(given: str) -> tuple[str, ...]:
    kinds = _names([given]) or []
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"`--fail-on` must be among {', '.join(KINDS)}, separated by commas. Received: {unknown[0]!r}")
    return tuple(kinds)


def _backends(names: str | None, others: Sequence[str]) -> dict[str, str | None] | None:
    if names is None and not others:
        return None
    here = [name.strip() for name in names.split(",")] if names else filter(installed, BACKENDS)
    chosen: dict[str, str | None] = dict.fromkeys(here)
    for text in others:
        name, equals, python = text.partition("=")
        if not equals:
            raise ValueError(f"`--backend` must be NAME=PYTHON. Received: {text!r}")
        chosen[name] = python
    return chosen


class _Progress:
    """Show the progress of each backend: on one line of a terminal, elsewhere by a line every ten seconds."""

    def __init__(self) -> None:
        self.done: dict[str, str] = {}
        self.terminal = sys.stderr.isatty()
        self.began = self.shown = time.monotonic()

    def __call__(self, backend: str, done: int, of: int) -> None:
        self.done[backend] = f"{backend} {done}/{of}"
        line, now = "  ".join(self.done.values()), time.monotonic()
        if self.terminal:
            columns = shutil.get_terminal_size().columns
            print(f"\r\033[K{line[: columns - 1]}", end="", file=sys.stderr, flush=True)  # a second line would stay
        elif now - self.shown >= _EVERY:
            self.shown = now
            print(f"multiloss check: {line} requests after {now - self.began:.0f} s", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
