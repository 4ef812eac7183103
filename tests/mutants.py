"""Change the source at random places, one at a time, and see whether a test fails: `tox -e mutants`.

A sample of all mutants of the pairwise and overlap losses and of their base class, drawn by a seed. Each is tested by
those tests alone that run the changed statement, the fastest first, eagerly on torch; what other backends do with a
line is beyond it. (mutmut and cosmic-ray have no seeded sample and no swapped calls, and import the framework, 5 s, for
each mutant, which here is forked from a process that has it.)
"""

import argparse
import ast
import builtins
import contextlib
import copy
import faulthandler
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import coverage
import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ["multiloss/_base.py", "multiloss/pairwise", "multiloss/overlap"]
TESTS = ["tests/losses", "tests/options"]
HANGS, SLOW = 120, 30  # seconds of a test: after which it counts as failed, and from which on it is left out

# Mutants that no test can see on torch, and why: the file and the line as changed -> the reason.
SURVIVORS = {
    "multiloss/overlap/_engine/sums.py: if (backend.backend() != 'torch') or (known and size < 2 * _BLOCKS):": (
        "torch is only slower in blocks; TensorFlow fails in test_long_sums"
    ),
    "multiloss/overlap/_metric.py: total = ops.sum(weights, axis=1, keepdims=True)": "the same axis",
    'multiloss/overlap/confusion_matrix.py: ax.text(column, row, text, ha="center", va="center", color=color, '
    "fontsize=min(11, _CELL / len(text)))": "a size of letters that was chosen",
    "multiloss/overlap/_engine/sums.py: if m > 0:": "torch does not come here; TensorFlow fails in test_long_sums",
    "multiloss/overlap/_engine/sums.py: rows, rest = size // n, (size // n)": "torch does not come here, as above",
    "multiloss/pairwise/_engine/direct.py: return (entries < _MOST_ENTRIES_OF_AN_ACCELERATOR)": (
        "needs an accelerator; and a bound that was chosen"
    ),
}

# --- mutants ---------------------------------------------------------------------------------------------------------

OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult}
OPERATORS |= {ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult}
COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
COMPARISONS |= {ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}
PAIRS = ["maximum minimum", "max min", "sum mean", "sum max", "sqrt square", "any all", "log log1p", "exp expm1"]
PAIRS += ["equal not_equal", "logical_and logical_or", "zeros_like ones_like"]
CALLS = [tuple(pair.split()) for pair in PAIRS] + [tuple(reversed(pair.split())) for pair in PAIRS]


class Mutant(NamedTuple):
    file: str
    line: int
    column: int  # in bytes, as `ast` counts
    text: str  # of the line
    original: str
    replacement: str
    changed: str = ""  # the line as changed; the first and the last, where the original has several
    source: bytes = b""  # the whole file as changed
    lines: range = range(0)  # those of the statement, without its body

    @property
    def key(self):  # by which it is found in another version, where lines have moved
        return self.file, *self[2:6]


def altered(node, **fields):
    node = copy.copy(node)
    vars(node).update(fields)
    return node


def variants(node, own):
    """Yield what to put in the place of a node; `own` are the names of the package's functions."""
    match node:
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in OPERATORS:
            yield altered(node, op=OPERATORS[type(op)]())
        case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
            yield operand
        case ast.BoolOp(op=op):
            yield altered(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.Compare(ops=signs):
            for i, sign in enumerate(signs):
                yield altered(node, ops=[*signs[:i], COMPARISONS[type(sign)](), *signs[i + 1 :]])
        case ast.Constant(value=bool(value)):
            yield altered(node, value=not value)
        case ast.Constant(value=int(value) | float(value)):
            yield altered(node, value=value + 1 if value + 1 != value else 2 * value)
            if value == 1:
                yield altered(node, value=type(value)(0))
        case ast.IfExp(body=body, orelse=orelse):
            yield altered(node, body=orelse, orelse=body)
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name) as function, args=args):
            of_ops = isinstance(function, ast.Attribute) and ast.unparse(function.value) in ("ops", "math")
            for before, after in CALLS:
                if name == before and of_ops:
                    yield altered(node, func=altered(function, attr=after))
                elif name == before and isinstance(function, ast.Name) and hasattr(builtins, after):
                    yield altered(node, func=altered(function, id=after))
            if of_ops and name == "where":
                yield altered(node, args=[args[0], args[2], args[1]])
            elif name in own and len(args) == 2 and not any(isinstance(arg, ast.Starred) for arg in args):
                yield altered(node, args=args[::-1])


def nodes(node, statement=None):
    """Yield all nodes, with the statements they are in, but for annotations, f-strings and what raises errors."""
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if name in ("annotation", "returns") or isinstance(child, ast.Raise | ast.JoinedStr):
                continue
            if isinstance(child, ast.AST):
                inside = child if isinstance(child, ast.stmt) else statement
                yield child, inside
                yield from nodes(child, inside)


def mutants():
    """Return all mutants of the sources."""
    files = [file for source in SOURCES for file in sorted((ROOT / source).rglob("*.py")) or [ROOT / source]]
    trees = {file: ast.parse(file.read_bytes()) for file in files}
    own = {node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    found = []
    for file, tree in trees.items():
        lines = file.read_bytes().splitlines(keepends=True)
        for node, statement in nodes(tree):
            for new in variants(node, own):
                # In brackets, whatever it stands in.
                text = f"({ast.unparse(new)})" if not isinstance(new, ast.stmt) else ast.unparse(new)
                if isinstance(new, ast.Call | ast.Constant | ast.Name):
                    text = text[1:-1]
                first, last = node.lineno - 1, node.end_lineno - 1
                before, after = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
                changed = before + text.encode() + after
                source = b"".join([*lines[:first], changed, *lines[last + 1 :]])
                original = b"".join(lines[first : last + 1])[len(before) : -len(after)].decode()
                head = statement.body[0].lineno - 1 if hasattr(statement, "body") else statement.end_lineno
                where = str(file.relative_to(ROOT)), first + 1, node.col_offset, lines[first].decode().strip("\n")
                span = range(statement.lineno, head + 1)
                found.append(Mutant(*where, original, text, changed.decode().strip(), source, span))
    return found


def sample(found, seed, count):
    """Draw mutants, at most one a line, but for those that change nothing, `f(x, x)`."""
    chosen = {}
    for mutant in random.Random(seed).sample(found, len(found)):
        if mutant.original != mutant.replacement:
            chosen.setdefault((mutant.file, mutant.line), mutant)
    return list(chosen.values())[:count]


# --- tests -----------------------------------------------------------------------------------------------------------


class Plugin:
    """Run chosen tests, fastest first, or all of them under coverage."""

    def __init__(self, root, chosen=None, tracer=None):
        self.root, self.chosen, self.tracer, self.durations = root, chosen, tracer, {}

    def pytest_collection_modifyitems(self, items):
        if self.chosen is not None:
            items[:] = [item for item in items if item.nodeid in self.chosen]
            items.sort(key=lambda item: self.chosen[item.nodeid])

    def pytest_runtest_logstart(self, nodeid):
        # A limit for each test, not for the mutant: how long that takes depends on what else the machine does.
        faulthandler.dump_traceback_later(HANGS, exit=True)
        (self.root / "running").write_text(nodeid)
        self.durations[nodeid] = 0
        if self.tracer:
            for module in [module for name, module in sys.modules.items() if name.startswith("multiloss")]:
                for value in vars(module).values():
                    if hasattr(value, "cache_clear"):
                        value.cache_clear()  # else only the first test would be seen to make what is kept
            self.tracer.switch_context(nodeid)

    def pytest_runtest_logreport(self, report):
        self.durations[report.nodeid] += report.duration

    def pytest_runtest_logfinish(self):
        if self.tracer:
            self.tracer.switch_context("")


def child(root, tests, chosen, answer):
    """Run tests on the package under a root, in a process of its own, and answer with what came of it."""
    os.setsid()  # so that what tests start can be ended with it
    for stream in (1, 2):
        os.dup2(os.open(root / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.path.insert(0, str(root))
    os.environ["PYTHONPATH"] = str(root)
    tracer = coverage.Coverage(data_file=None, include=[f"{root}/*"]) if chosen is None else None
    plugin, seen = Plugin(root, chosen, tracer), {}
    with tracer.collect() if tracer else contextlib.nullcontext():
        faulthandler.dump_traceback_later(HANGS, exit=True)  # an import may hang, too
        code = pytest.main(
            ["-x", "-q", "-p", "no:cacheprovider", "-k", "not inductor and not aot_eager", *tests], plugins=[plugin]
        )
    package = sys.modules["multiloss"].__file__
    assert Path(package).is_relative_to(root), package  # not one that is installed
    for file in tracer.get_data().measured_files() if tracer else ():
        by_line = tracer.get_data().contexts_by_lineno(file)
        seen[str(Path(file).relative_to(root))] = {str(line): names for line, names in by_line.items()}  # as in JSON
    answer.send((int(code), plugin.durations, seen))


def run(tests, chosen=None, mutant=None):
    """Run tests on a copy of the package: (exit code or None, durations, seen, the test that ran last, output)."""
    fork = multiprocessing.get_context("fork")
    answer, sending = fork.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        shutil.copytree(ROOT / "multiloss", root / "multiloss", ignore=shutil.ignore_patterns("__pycache__"))
        if mutant:
            (root / mutant.file).write_bytes(mutant.source)
        (root / "running").write_text("import")
        process = fork.Process(target=child, args=(root, tests, chosen, sending))
        process.start()
        sending.close()
        results = None, {}, {}
        with contextlib.suppress(EOFError):  # ended by the limit, or by the mutant
            results = answer.recv()
        process.join()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return *results, (root / "running").read_text(), (root / "output").read_text(errors="replace")


def observe(tests):
    """Run all tests and return how long each takes, and which ran each line."""
    code, durations, seen, _, output = run(tests)
    if code != 0:
        sys.exit(f"{output}\nThe tests fail without a mutant.")
    return durations, seen


def verdict(mutant, durations, seen):
    """Return what becomes of a mutant, and by what."""
    names = {name for line in mutant.lines for name in seen.get(mutant.file, {}).get(str(line), ())}
    # What runs without a test, at import, is seen by every test.
    chosen = {name: t for name, t in durations.items() if t < SLOW and (name in names or "" in names)}
    if not chosen:
        return "survived", "no test runs it"
    code, _, _, last, _ = run(sorted({name.partition("::")[0] for name in chosen}), chosen, mutant)
    if code == 0:
        return "survived", f"{len(chosen)} tests"
    return "killed", last if code is not None else f"too slow, or crashed: {last}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--tests", nargs="+", default=TESTS)
    parser.add_argument("--save", type=Path, help="write the sample to a file, to run it on another version")
    parser.add_argument("--from", type=Path, dest="source", help="run the mutants of a file instead of a sample")
    parser.add_argument("--seen", type=Path, help="where to keep, for this very version, which tests run which line")
    arguments = parser.parse_args()

    os.chdir(ROOT)
    os.environ.update(KERAS_BACKEND="torch", OMP_NUM_THREADS="1")
    import keras  # once, for all that are forked
    import torch

    torch.set_num_threads(1)  # with one thread, it is safe to fork
    assert keras.backend.backend() == "torch"
    assert "multiloss" not in sys.modules

    start, found = time.monotonic(), mutants()
    wanted = sample(found, arguments.seed, arguments.count)
    if arguments.source:
        wanted = [Mutant(**saved) for saved in json.loads(arguments.source.read_text())]
    if arguments.save:
        saved = [dict(zip(Mutant._fields, mutant[:6], strict=False)) for mutant in wanted]
        arguments.save.write_text(json.dumps(saved, indent=1))
    if arguments.seen and arguments.seen.exists():
        durations, seen = json.loads(arguments.seen.read_text())
    else:
        durations, seen = observe(arguments.tests)
        if arguments.seen:
            arguments.seen.write_text(json.dumps([durations, seen]))
    print(f"{len(durations)} tests; {len(found)} mutants, of which {len(wanted)}:", flush=True)

    results = {"killed": [], "survived": [], "gone": []}
    for number, mutant in enumerate(wanted, 1):
        before = time.monotonic()
        here = [other for other in found if other.key == mutant.key]
        mutant = min(here, key=lambda other: abs(other.line - mutant.line), default=mutant)
        state, by = verdict(mutant, durations, seen) if here else ("gone", "the line is no more")
        results[state].append(mutant)
        place, line = f"{mutant.file}:{mutant.line}", mutant.changed or mutant.text.strip()
        print(f"{number:3} {state:8} {time.monotonic() - before:4.0f} s  {place}  {line}  [{by}]", flush=True)

    killed, gone, minutes = len(results["killed"]), len(results["gone"]), (time.monotonic() - start) / 60
    names = {f"{mutant.file}: {mutant.changed}": mutant for mutant in results["survived"]}
    print(f"{killed} of {len(wanted) - gone} killed, {gone} gone, in {minutes:.0f} minutes; survivors: {len(names)}")
    for name, mutant in names.items():
        print(f"  {name}\n    was: {mutant.text.strip()}\n    {SURVIVORS.get(name, 'NO REASON GIVEN')}")
    sys.exit(any(name not in SURVIVORS for name in names))


if __name__ == "__main__":
    main()
