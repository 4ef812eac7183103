"""The command `multiloss check`."""

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from multiloss import __version__
from multiloss._backends import BACKENDS, installed
from multiloss.check.families import FAMILIES
from multiloss.check.pool import TIMEOUT
from multiloss.check.run import CHECKS, check_loss

_DESCRIPTION = """Check a Keras loss against an oracle, and for consistency, on every backend.

TARGET is `module:attribute` or `path.py:attribute`, followed by a call if there are arguments:

    multiloss check keras.losses:Dice
    multiloss check "multiloss:dice_loss(smooth=1.0)" --oracle my_oracles.py:dice
    multiloss check my_losses.py:MyLoss --inputs one-hot --backends jax,torch

Exit code: 0 if all checks pass, 1 if one fails (or a known failure passes), 2 if the checks could not run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `multiloss` with the given or the command line's arguments, and return its exit code."""
    parser = argparse.ArgumentParser(prog="multiloss", description="Keras 3 losses, exact on every backend.")
    parser.add_argument("--version", action="version", version=f"multiloss {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser(
        "check", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter, help="check a loss"
    )
    add = check.add_argument
    add("target", metavar="TARGET", help="the loss: a function, a Loss class, an instance, or a call that returns one")
    add("--oracle", metavar="TARGET", help="a NumPy function of (y_true, y_pred) that the loss must agree with")
    add("--inputs", metavar="INPUTS", help=f"{', '.join(FAMILIES)}; an .npz file; or a function of a seed")
    add("--backends", metavar="NAMES", help="comma-separated; default: all installed backends")
    add(
        "--backend",
        metavar="NAME=PYTHON",
        action="append",
        default=[],
        help="run a backend in another Python, in addition to --backends; repeatable",
    )
    add("--seed", type=int, default=0, help="seed of the random inputs")
    add("--only", metavar="CHECK", action="append", help=f"run only this check: {', '.join(CHECKS)}; repeatable")
    add("--search", type=int, default=0, metavar="N", help="draw N more cases and show the smallest that fails")
    add("--known", metavar="FILE", help="known failures, one `CHECK [BACKEND]` per line; one that passes is reported")
    add(
        "--timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help="limit for one request to a backend (default: %(default)g)",
    )
    add("--json", metavar="FILE", help="write the report as JSON")
    add("--html", metavar="FILE", help="write the report as an HTML page with plots")
    add("--debug", action="store_true", help="show the traceback of an error")
    given = parser.parse_args(arguments)
    progress = _Progress()
    files = {"--json": given.json, "--html": given.html}
    try:
        for option, path in files.items():
            if path and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
                raise ValueError(f"`{option}` must be a file in a folder that exists. Received: {path!r}")
        report = check_loss(
            given.target,
            given.oracle,
            inputs=given.inputs,
            backends=_backends(given.backends, given.backend),
            seed=given.seed,
            checks=given.only,
            known=given.known,
            timeout=given.timeout,
            search=given.search,
            progress=progress,
        )
        progress.clear()
        print(report.text(color=sys.stdout.isatty()))
        for path, text in ((given.json, report.json), (given.html, report.html)):
            if path:
                Path(path).write_text(text() + "\n", encoding="utf-8")
    except (Exception, SystemExit) as error:  # user code runs here too and may raise anything
        progress.clear()
        if given.debug:
            traceback.print_exc()
        named = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
        print(f"multiloss check: {named}{' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return report.exit_code


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
    """Show the progress of each backend on one line of a terminal; print no progress elsewhere."""

    def __init__(self) -> None:
        self.done: dict[str, str] = {}
        self.shown = sys.stderr.isatty()

    def __call__(self, backend: str, done: int, of: int) -> None:
        self.done[backend] = f"{backend} {done}/{of}"
        if self.shown:
            print("\r\033[K" + "  ".join(self.done.values()), end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
