"""Imports run one way, as the data flow, and only the seams import a framework. Read from the source."""

import ast
from pathlib import Path

import pytest

import multiloss

PACKAGE = Path(multiloss.__file__).parent
MODULES = sorted(
    "multiloss." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"
)
OVERLAP_ENGINE = {
    f"multiloss.overlap._engine.{name}"
    for name in ("options", "shapes", "ranges", "inputs", "sums", "ratios", "pixelwise")
}
REPORT = ("cells", "known", "contents", "text", "html")
# What each module may import of multiloss: the way the data flow, and never back.
IMPORTS = {
    "multiloss": {
        "multiloss._backends",
        "multiloss._register_on_keras_import",
        "multiloss.ids",
        "multiloss.losses",
        "multiloss.metrics",
        "multiloss.oracles",
    },
    "multiloss._backends": set(),
    "multiloss._register_on_keras_import": {"multiloss._backends"},
    "multiloss.oracles": {"multiloss.oracles.*"},
    "multiloss.oracles.*": set(),
    "multiloss.ids": set(),
    "multiloss._frameworks": set(),
    "multiloss._arguments": {"multiloss._frameworks", "multiloss.ids"},
    "multiloss._base": {"multiloss._arguments"},
    "multiloss.distribution": {"multiloss._arguments"},
    "multiloss.losses": {
        "multiloss.overlap._base",
        "multiloss.overlap._engine.sums",
        "multiloss.overlap.*",
        "multiloss.pairwise._base",
        "multiloss.pairwise.*",
    },
    "multiloss.metrics": {
        "multiloss.overlap.confusion_matrix",
        "multiloss.overlap.metrics",
        "multiloss.pairwise.metrics",
    },
    "multiloss.pairwise": set(),
    # From the hardware to the loop, and beside it.
    "multiloss.pairwise._engine": set(),
    "multiloss.pairwise._engine.products": {"multiloss._frameworks", "multiloss._arguments"},
    "multiloss.pairwise._engine.distances": {"multiloss._arguments", "multiloss.pairwise._engine.products"},
    "multiloss.pairwise._engine.accumulate": {"multiloss._arguments"},
    "multiloss.pairwise._engine.formula": {"multiloss._frameworks", "multiloss._arguments"},
    "multiloss.pairwise._engine.tiles": {"multiloss._arguments"},
    "multiloss.pairwise._engine.direct": {
        "multiloss._frameworks",
        "multiloss._arguments",
        "multiloss.pairwise._engine.accumulate",
        "multiloss.pairwise._engine.formula",
        "multiloss.pairwise._engine.tiles",
    },
    "multiloss.pairwise._engine.loop": {
        "multiloss._frameworks",
        "multiloss._arguments",
        "multiloss.distribution",
        "multiloss.pairwise._engine.accumulate",
        "multiloss.pairwise._engine.distances",
        "multiloss.pairwise._engine.formula",
        "multiloss.pairwise._engine.products",
        "multiloss.pairwise._engine.tiles",
    },
    "multiloss.pairwise._doubts": {"multiloss._frameworks", "multiloss.pairwise._engine.formula"},
    "multiloss.pairwise._base": {
        "multiloss._base",
        "multiloss._frameworks",
        "multiloss._arguments",
        "multiloss.distribution",
        "multiloss.pairwise._engine.accumulate",
        "multiloss.pairwise._engine.direct",
        "multiloss.pairwise._engine.formula",
        "multiloss.pairwise._engine.loop",
        "multiloss.pairwise._engine.tiles",
        "multiloss.pairwise._doubts",
    },
    "multiloss.pairwise.metrics": {"multiloss._arguments", "multiloss._base"},
    "multiloss.pairwise.*": {"multiloss._arguments", "multiloss.pairwise._base", "multiloss.pairwise._doubts"},
    "multiloss.overlap": set(),
    # From inputs to sums to ratios.
    "multiloss.overlap._engine": set(),
    "multiloss.overlap._engine.options": {"multiloss._arguments"},
    "multiloss.overlap._engine.shapes": {"multiloss._arguments", "multiloss.overlap._engine.options"},
    "multiloss.overlap._engine.ranges": {
        "multiloss._arguments",
        "multiloss._frameworks",
        "multiloss.distribution",
        "multiloss.overlap._engine.options",
    },
    "multiloss.overlap._engine.inputs": {
        "multiloss._arguments",
        "multiloss._frameworks",
        "multiloss.overlap._engine.options",
        "multiloss.overlap._engine.ranges",
        "multiloss.overlap._engine.shapes",
    },
    "multiloss.overlap._engine.sums": {
        "multiloss._arguments",
        "multiloss.distribution",
        "multiloss.overlap._engine.inputs",
        "multiloss.overlap._engine.options",
    },
    **{
        f"multiloss.overlap._engine.{name}": {
            "multiloss._arguments",
            "multiloss.overlap._engine.inputs",
            "multiloss.overlap._engine.options",
            "multiloss.overlap._engine.ratios",
            "multiloss.overlap._engine.sums",
        }
        for name in ("ratios", "pixelwise")
    },
    "multiloss.overlap._base": {
        "multiloss._arguments",
        "multiloss._base",
        "multiloss._frameworks",
        "multiloss.distribution",
        *OVERLAP_ENGINE,
    },
    "multiloss.overlap._metric": {"multiloss._arguments", "multiloss._base", *OVERLAP_ENGINE},
    **{
        f"multiloss.overlap.{name}": {"multiloss._arguments", "multiloss.overlap._metric", *OVERLAP_ENGINE}
        for name in ("metrics", "confusion_matrix")
    },
    "multiloss.overlap.*": {
        "multiloss._arguments",
        "multiloss._base",
        "multiloss._frameworks",
        "multiloss.overlap._base",
        *OVERLAP_ENGINE,
    },
    # The checker runs Keras in processes of their own: only the worker imports it, and the frameworks.
    "multiloss.__main__": {"multiloss.check.cli"},
    "multiloss.check": {
        "multiloss.check.asserting",
        "multiloss.check.checks",
        "multiloss.check.checks.metrics",
        "multiloss.check.families",
        "multiloss.check.job",
        "multiloss.check.models.report",
        "multiloss.check.models.run",
        "multiloss.check.pool",
        "multiloss.check.report",
        "multiloss.check.run",
        "multiloss.check.targets",
    },
    **{f"multiloss.check.{name}": set() for name in ("targets", "compare", "slopes", "loop")},
    # From cells to what is said of them to pages.
    "multiloss.check.report": {f"multiloss.check.report.{name}" for name in REPORT},
    "multiloss.check.report.cells": set(),
    "multiloss.check.report.known": {"multiloss.check.report.cells"},
    "multiloss.check.report.contents": {"multiloss.check.report.cells", "multiloss.check.report.known"},
    "multiloss.check.report.text": {"multiloss.check.report.cells", "multiloss.check.report.contents"},
    "multiloss.check.report.html": {
        "multiloss.check.report.cells",
        "multiloss.check.report.contents",
        "multiloss.check.report.text",
    },
    "multiloss.check.pool": {"multiloss._backends", "multiloss.check.devices"},
    "multiloss.check.devices": {"multiloss.check.targets"},
    # Batches: from one's own, to families.
    "multiloss.check.tree": set(),
    "multiloss.check.inputs": {"multiloss.check.targets", "multiloss.check.tree"},
    "multiloss.check.spec": {"multiloss.check.inputs", "multiloss.check.targets", "multiloss.check.tree"},
    "multiloss.check.families": {"multiloss.check.inputs", "multiloss.check.spec", "multiloss.check.targets"},
    "multiloss.check.hints": {"multiloss.check.families", "multiloss.check.inputs", "multiloss.check.tree"},
    # In the worker: frameworks' modes, tasks made of them, and the loop.
    "multiloss.check.backends": {"multiloss.check.slopes", "multiloss.check.targets"},
    "multiloss.check.tasks": {f"multiloss.check.{name}" for name in ("backends", "loop", "slopes", "targets", "tree")},
    "multiloss.check.metric_tasks": {f"multiloss.check.{name}" for name in ("backends", "slopes", "targets", "tree")},
    "multiloss.check.worker": {
        "multiloss.check",
        *(
            f"multiloss.check.{name}"
            for name in ("backends", "devices", "loop", "metric_tasks", "models.tasks", "tasks")
        ),
    },
    # Outside: what checks request and conclude, and the cells of that.
    "multiloss.check.checks": {"multiloss.check.checks.*"},
    "multiloss.check.checks.*": {
        "multiloss.check.checks.*",
        *(f"multiloss.check.{name}" for name in ("compare", "inputs", "loss_record", "pool", "slopes", "tree")),
    },
    "multiloss.check.judge": {
        "multiloss.check.checks",
        "multiloss.check.checks.*",
        *(f"multiloss.check.{name}" for name in ("compare", "pool", "report")),
    },
    "multiloss.check.search": {
        "multiloss.check.families",
        "multiloss.check.inputs",
        "multiloss.check.report",
        "multiloss.check.spec",
        "multiloss.check.targets",
    },
    "multiloss.check.job": {
        "multiloss.check.checks",
        "multiloss.check.checks.*",
        *(f"multiloss.check.{name}" for name in ("compare", "families", "hints", "inputs", "judge", "loss_record")),
        "multiloss.check.report.contents",
        *(f"multiloss.check.{name}" for name in ("pool", "report", "search", "slopes", "targets", "tree")),
    },
    "multiloss.check.metric_job": {
        "multiloss.check.checks.*",
        *(f"multiloss.check.{name}" for name in ("inputs", "job", "report", "slopes", "tree")),
    },
    "multiloss.check.run": {
        "multiloss._backends",
        "multiloss.check.checks",
        "multiloss.check.checks.*",
        *(f"multiloss.check.{name}" for name in ("devices", "job", "loss_record", "metric_job", "pool", "recorded")),
        *(f"multiloss.check.{name}" for name in ("report", "targets")),
        "multiloss.check",
    },
    "multiloss.check.models.known": {"multiloss.check.models.report", "multiloss.check.report"},
    # Whole models: what layers do, in the worker; what parts first, of arrays; the report; the order of it all.
    "multiloss.check.models": set(),
    "multiloss.check.models.stages": {"multiloss.check.slopes"},
    "multiloss.check.models.recording": {"multiloss.check.models.stages"},
    "multiloss.check.models.tasks": {
        "multiloss.check.models.recording",
        *(f"multiloss.check.{name}" for name in ("backends", "loop", "slopes", "targets", "tree")),
    },
    "multiloss.check.models.report": {
        "multiloss.check.models.picture",
        *(f"multiloss.check.report{name}" for name in ("", ".contents", ".html", ".text")),
        "multiloss.check.slopes",
    },
    "multiloss.check.models.picture": {"multiloss.check.report"},
    "multiloss.check.models.batches": {"multiloss.check.tree"},
    "multiloss.check.recorded": {"multiloss.check.targets"},
    "multiloss.check.loss_record": {
        *(f"multiloss.check.{name}" for name in ("", "checks.base", "inputs", "recorded", "slopes")),
    },
    "multiloss.check.models.record": {"multiloss.check", "multiloss.check.models.stages", "multiloss.check.recorded"},
    "multiloss.check.models.job": {
        *(f"multiloss.check.models{name}" for name in ("", ".batches", ".known", ".record", ".report", ".stages")),
        "multiloss.check.report.contents",
        *(f"multiloss.check.{name}" for name in ("job", "pool", "report", "tree")),
    },
    "multiloss.check.models.run": {
        *(f"multiloss.check.models{name}" for name in ("", ".job", ".known", ".record", ".report")),
        *(f"multiloss.check.{name}" for name in ("devices", "job", "pool", "recorded", "run", "targets")),
        "multiloss.check",
    },
    # The command, which tells the version; asserting and the plugin.
    "multiloss.check.cli": {
        "multiloss",
        "multiloss._backends",
        *(
            f"multiloss.check.{name}"
            for name in ("checks", "checks.metrics", "devices", "families", "job", "pool", "report", "run")
        ),
        "multiloss.check.models.report",
        "multiloss.check.models.run",
    },
    "multiloss.check.asserting": {
        "multiloss.check",
        *(f"multiloss.check.models.{name}" for name in ("record", "report", "run")),
        *(f"multiloss.check.{name}" for name in ("checks.recorded", "job", "loss_record", "pool", "recorded")),
        *(f"multiloss.check.{name}" for name in ("report", "run")),
    },
    "multiloss.check.plugin": {"multiloss.check", "multiloss.check.asserting"},
    "multiloss.check.*": {
        "multiloss.check.*",
        "multiloss.check.models.report",
        "multiloss.check.models.run",
        "multiloss.check.pool",
        "multiloss.check.report",
        "multiloss.check.run",
    },
}

# Losses do not start a reduction from a number: on torch, Keras puts that on the CPU, wherever the rest is.
LOSSES = [*PACKAGE.glob("pairwise/**/*.py"), *PACKAGE.glob("overlap/*.py")]


@pytest.mark.parametrize("path", LOSSES, ids=lambda path: path.stem)
def test_everything_is_on_one_device(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not [keyword for call in calls for keyword in call.keywords if keyword.arg == "initial"]


# The files whose job is a framework's own API.
SEAMS = ("multiloss._frameworks", "multiloss.check.backends", "multiloss.distribution")


def imported(module):
    """Modules of multiloss and top-level names of others that a module's source imports."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inner & set(MODULES) or {node.module}
    return names


def of_room(module):
    """multiloss.room.* for a module of a room that has no line of its own."""
    return module if module in IMPORTS else module.rpartition(".")[0] + ".*"


@pytest.mark.parametrize("module", ["multiloss", *MODULES])
def test_imports_run_one_way(module):
    allowed = IMPORTS[of_room(module)]
    for name in imported(module):
        if name.split(".")[0] == "multiloss":
            assert name in allowed or of_room(name) in allowed, f"{module} imports {name}"


@pytest.mark.parametrize("module", ["multiloss", *MODULES])
def test_no_module_imports_a_framework(module):
    frameworks = {name.split(".")[0] for name in imported(module)} & {"tensorflow", "jax", "torch"}
    assert not frameworks or module in SEAMS
    assert not [name for name in imported(module) if name.startswith("keras.src")]
