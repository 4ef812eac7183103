"""The commands `multiloss check` and `multiloss compare`."""

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
from multiloss.check.devices import DEVICES, PRECISIONS, PRODUCTS
from multiloss.check.families import FAMILIES
from multiloss.check.job import CheckError
from multiloss.check.models.report import Comparison
from multiloss.check.models.run import MEMORY as MODEL_MEMORY
from multiloss.check.models.run import compare_training
from multiloss.check.pool import MEMORY, TIMEOUT
from multiloss.check.report import KINDS, Report
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
_COMPARE = """\
Train a Keras model on every installed backend, with the same weights and batches, and say where the numbers part first:
data, weights, the outputs of layers, the loss, metrics, gradients, weights after a step, or the loss of later steps.
Rounding is measured, and float64 says who is off.

BUILD is a function without arguments that returns a compiled model, as `file.py:name` or `module:name`. DATA is a
function of a seed that returns (x, y) or (x, y, sample_weight), a keras.utils.PyDataset, or an .npz file."""
_COMPARE_EPILOG = """examples:
  multiloss compare my_project.py:build --data my_project.py:batches
  multiloss compare my_project.py:build --data train.npz --steps 100 --backends jax,torch --html report.html
  multiloss compare my_project.py:build --data my_project.py:batches --backends jax --record ref.npz
  multiloss compare my_project.py:build --data my_project.py:batches --backends torch --against ref.npz

exit code: 0 if differences are rounding, 1 if numbers part, 2 if the model could not be compared, 130 after Ctrl-C"""
# Options that `check_loss` or `compare_training` has under the same name; those not given keep its defaults.
_PASSED = {
    "check": ("inputs", "known", "search", "metric"),
    "compare": ("data", "steps", "batch_size"),
}
_OF_BOTH = ("seed", "timeout", "memory", "device", "precision", "record", "against")
_EVERY = 10.0  # seconds between two lines of progress where there is no terminal


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `multiloss` with the given or the command line's arguments, and return its exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help()
        return 0
    progress = _Progress(f"multiloss {given.command}")
    try:
        for option in ("json", "html", "picture"):
            path = getattr(given, option, None)
            if path and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
                raise ValueError(f"`--{option}` must be a file in a folder that exists. Received: {path!r}")
        report = (_check if given.command == "check" else _compare)(given, progress)
        progress.clear()
        print(report.text(color=sys.stdout.isatty(), failures=None if given.all_failures else 3))
        for path, text in ((given.json, report.json), (given.html, report.html)):
            if path:
                Path(path).write_text(text(), encoding="utf-8")
        if isinstance(report, Comparison) and given.picture:
            report.picture(given.picture)
    except KeyboardInterrupt:
        progress.clear()
        print(f"{progress.command}: interrupted", file=sys.stderr)
        return 130  # as shells have it: 128 + SIGINT
    except (Exception, SystemExit) as error:  # user code runs here too and may raise anything
        progress.clear()
        if given.debug:
            traceback.print_exc()
        named = "" if isinstance(error, ValueError | OSError | ImportError) else f"{type(error).__name__}: "
        # The lines of our own errors are meant so.
        lines = str(error).splitlines() if isinstance(error, CheckError) else [" ".join(str(error).split())]
        print(f"{progress.command}: {named}" + "\n".join(lines), file=sys.stderr)
        return 2
    return report.exit_code


def _passed(given: argparse.Namespace) -> dict[str, Any]:
    options = {name: getattr(given, name) for name in (*_PASSED[given.command], *_OF_BOTH)}
    options["backends"] = _backends(given.backends, given.backend)
    return {name: value for name, value in options.items() if value is not None}


def _check(given: argparse.Namespace, progress: "_Progress") -> Report:
    fail_on = _kinds(given.fail_on)
    some = {"checks": _names(given.only), "skip": _names(given.skip)}
    options = _passed(given) | {name: names for name, names in some.items() if names is not None}
    report = check_loss(given.target, given.oracle, progress=progress, **options)
    return dataclasses.replace(report, fail_on=fail_on)


def _compare(given: argparse.Namespace, progress: "_Progress") -> Comparison:
    return compare_training(given.target, progress=progress, **_passed(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="multiloss",
        description="Keras 3 losses, exact on every backend.",
        epilog="`multiloss COMMAND --help` has the options and examples.",
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
    add("--against", metavar="FILE", help="a record, with which the values and gradients of its batches are compared")
    written = _add_common(check, "the loss", PRODUCTS)
    written.add_argument("--record", metavar="FILE", help="write batches, values and gradients of each backend (.npz)")
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

    compare = commands.add_parser(
        "compare",
        description=_COMPARE,
        epilog=_COMPARE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="train any Keras model on every backend and say where the numbers part",
    )
    add = compare.add_argument_group("what is compared").add_argument
    add("target", metavar="BUILD", help="a function without arguments that returns a compiled model")
    add("--data", metavar="DATA", required=True, help="a function of a seed, a PyDataset, or an .npz file")
    add("--steps", type=int, metavar="N", help="steps of training (default: 20)")
    add("--batch-size", type=int, metavar="N", help="rows of a batch, if DATA gives all rows (default: 32)")
    add(
        "--against", metavar="FILE", help="a record: its backends are compared with those here, with its data and steps"
    )
    written = _add_common(compare, "the model", PRECISIONS)
    written.add_argument("--record", metavar="FILE", help="write weights, batches and all that backends compute (.npz)")
    written.add_argument(
        "--picture", metavar="FILE", help="write a picture of the losses and of the error by layer; needs matplotlib"
    )
    for command in (check, compare):
        command.add_argument("--version", **version)
    return parser


def _add_common(command: argparse.ArgumentParser, what: str, precisions: Sequence[str]) -> argparse._ArgumentGroup:
    """Add what both commands have, and return the group of what is written."""
    add = command.add_argument_group("where").add_argument
    add("--seed", type=int, metavar="N", help="seed of the inputs (default: 0)")
    add("--backends", metavar="NAMES", help="separated by commas (default: all installed)")
    add(
        "--backend",
        metavar="NAME=PYTHON",
        action="append",
        default=[],
        help="run a backend in another Python, in addition to --backends; repeatable",
    )
    add("--device", choices=DEVICES, help="(default: what each framework takes by itself)")
    add(
        "--precision",
        choices=precisions,
        help="float32: no TF32 on accelerators; tf32: TF32"
        + ("; mixed_...: a policy of Keras" if len(precisions) > 2 else "")
        + " (default: what each framework does by itself)",
    )
    add("--timeout", type=float, metavar="SECONDS", help=f"limit for one request to a backend (default: {TIMEOUT:g})")
    memory = {"the loss": MEMORY, "the model": MODEL_MEMORY}[what]
    add("--memory", type=float, metavar="GIB", help=f"limit for what one request allocates (default: {memory:g})")
    written = command.add_argument_group("what is written")
    written.add_argument("--all-failures", action="store_true", help="show all failures instead of the three worst")
    written.add_argument("--json", metavar="FILE", help="write the report as JSON")
    written.add_argument("--html", metavar="FILE", help="write the report as an HTML page with plots")
    written.add_argument("--debug", action="store_true", help=f"show the traceback if {what} could not be run")
    return written


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

    def __init__(self, command: str) -> None:
        self.command = command
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
            print(f"{self.command}: {line} requests after {now - self.began:.0f} s", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
