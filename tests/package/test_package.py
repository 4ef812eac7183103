"""The package as a whole: names, direction of imports, what importing it imports, runnable examples, the wheel."""

import ast
import doctest
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from cases import CASES

import multiloss

PACKAGE = Path(multiloss.__file__).parent
MODULES = sorted(
    "multiloss." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"
)
# What each module may import of multiloss: the way the data flow, and never back.
IMPORTS = {
    "multiloss": {
        "multiloss._after_keras",
        "multiloss.ids",
        "multiloss.oracles",
        "multiloss.overlap",
        "multiloss.pairwise",
    },
    "multiloss._after_keras": set(),
    "multiloss.oracles": set(),
    "multiloss.ids": set(),
    "multiloss.checks": {"multiloss.ids"},
    "multiloss.losses": {"multiloss.checks"},
    "multiloss.distribution": {"multiloss.checks"},
    "multiloss.pairwise": {"multiloss.pairwise.*"},
    "multiloss.pairwise.distances": {"multiloss.checks"},
    "multiloss.pairwise.tiles": {"multiloss.checks", "multiloss.pairwise.distances"},
    "multiloss.pairwise.replicas": {
        "multiloss.checks",
        "multiloss.distribution",
        "multiloss.pairwise.distances",
        "multiloss.pairwise.tiles",
    },
    "multiloss.pairwise.engine": {
        "multiloss.checks",
        "multiloss.distribution",
        "multiloss.pairwise.distances",
        "multiloss.pairwise.replicas",
        "multiloss.pairwise.tiles",
    },
    "multiloss.pairwise.base": {
        "multiloss.checks",
        "multiloss.distribution",
        "multiloss.losses",
        "multiloss.pairwise.engine",
    },
    "multiloss.pairwise.*": {
        "multiloss.checks",
        "multiloss.distribution",
        "multiloss.pairwise.base",
        "multiloss.pairwise.engine",
        "multiloss.pairwise.tiles",
    },
    "multiloss.overlap": {
        "multiloss.overlap.*",
        "multiloss.overlap.combined_losses",
        "multiloss.overlap.options",
    },
    "multiloss.overlap.options": {"multiloss.checks"},
    "multiloss.overlap.engine": {"multiloss.checks", "multiloss.overlap.options"},
    "multiloss.overlap.base": {"multiloss.checks", "multiloss.losses", "multiloss.overlap.options"},
    "multiloss.overlap.*": {
        "multiloss.checks",
        "multiloss.losses",
        "multiloss.overlap.base",
        "multiloss.overlap.engine",
        "multiloss.overlap.options",
        "multiloss.overlap.pixels",
    },
    "multiloss.overlap.pixels": {"multiloss.checks", "multiloss.overlap.engine", "multiloss.overlap.options"},
    # The checker runs Keras in processes of their own: only the worker imports it, and the frameworks.
    "multiloss.__main__": {"multiloss.check.*"},
    "multiloss.check": {
        "multiloss.check.*",
        "multiloss.check.inputs",
        "multiloss.check.pool",
        "multiloss.check.report",
        "multiloss.check.run",
        "multiloss.check.targets",
    },
    **{f"multiloss.check.{name}": set() for name in ("targets", "report", "compare", "pool")},
    "multiloss.check.inputs": {"multiloss.check.targets"},
    "multiloss.check.worker": {"multiloss.check.targets"},
    "multiloss.check.judge": {
        "multiloss.check.compare",
        "multiloss.check.inputs",
        "multiloss.check.pool",
        "multiloss.check.report",
    },
    "multiloss.check.search": {"multiloss.check.inputs", "multiloss.check.report", "multiloss.check.targets"},
    "multiloss.check.run": {
        "multiloss.check.compare",
        "multiloss.check.inputs",
        "multiloss.check.judge",
        "multiloss.check.pool",
        "multiloss.check.report",
        "multiloss.check.search",
        "multiloss.check.targets",
    },
    # Asserting, the command and the plugin.
    "multiloss.check.*": {
        "multiloss.check.*",
        "multiloss.check.inputs",
        "multiloss.check.pool",
        "multiloss.check.report",
        "multiloss.check.run",
    },
    # What is made of other losses.
    "multiloss.overlap.combined_losses": {
        "multiloss.checks",
        "multiloss.losses",
        "multiloss.overlap.base",
        "multiloss.overlap.dice_losses",
        "multiloss.overlap.pixel_losses",
    },
}


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
    assert not frameworks or module in ("multiloss.check.worker", "multiloss.distribution")
    assert not [name for name in imported(module) if name.startswith("keras.src")]


def test_public_names_are_those_of_the_rooms():
    rooms = [importlib.import_module(name) for name in ("multiloss.ids", "multiloss.overlap", "multiloss.pairwise")]
    assert set(multiloss.__all__) == {"oracles"}.union(*(room.__all__ for room in rooms))
    for room in rooms:
        for name in room.__all__:
            assert getattr(multiloss, name) is getattr(room, name)
    assert set(multiloss.__all__) <= set(dir(multiloss))
    with pytest.raises(AttributeError, match="module 'multiloss' has no attribute 'triplet'"):
        _ = multiloss.triplet


@pytest.mark.parametrize("module", [name for name in MODULES if name not in ("multiloss._after_keras",)])
def test_all_lists_what_a_module_defines(module):
    module = importlib.import_module(module)
    if hasattr(module, "__all__"):
        defined = {
            name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__
        }
        public = {name for name in defined if not name.startswith("_")} - {"split_integers"}  # for `checks`
        assert public <= set(module.__all__)


def test_a_loss_is_exported_and_has_an_oracle_and_a_case():
    covered = {part.func.__name__ for case in CASES.values() for part in (case.function, case.loss)}
    for room in ("multiloss.overlap", "multiloss.pairwise"):
        room = importlib.import_module(room)
        modules = [
            importlib.import_module(f"{room.__name__}.{found.name}") for found in pkgutil.iter_modules(room.__path__)
        ]
        for name in {name for module in modules for name in getattr(module, "__all__", [])}:
            assert name in room.__all__, f"{name} is missing from `__all__` of {room.__name__}"
            assert name in multiloss.__all__, f"{name} is missing from `__all__` of multiloss"
            value = getattr(room, name)
            if isinstance(value, type) and not issubclass(value, keras.losses.Loss):
                continue
            assert name in covered, f"{name} is missing from CASES in tests/cases.py"
            if name.islower():
                assert name in multiloss.oracles.__all__, f"{name} is missing from multiloss/oracles.py"


def public_objects():
    for home in ("multiloss.ids", "multiloss.overlap", "multiloss.pairwise", "multiloss.oracles"):
        module = importlib.import_module(home)
        yield from (pytest.param(getattr(module, name), id=f"{home}.{name}") for name in module.__all__)


@pytest.mark.parametrize("public", list(public_objects()))
def test_docstrings_are_complete_and_their_examples_run(public):
    for section in ("Args:", "Example:"):
        assert section in public.__doc__
    examples = doctest.DocTestFinder(recurse=False).find(public, public.__name__)
    assert examples
    assert examples[0].examples
    runner = doctest.DocTestRunner()
    for example in examples:
        runner.run(example)
    assert runner.failures == 0


# --- in a process of its own -----------------------------------------------------------------------------------------


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_oracles_and_ids_import_no_keras():
    program = "import sys, multiloss.oracles; multiloss.oracles.dice_coef([1], [1]); multiloss.encode_ids(['a'])"
    assert run(f"{program}; print('keras' in sys.modules)") == "False\n"


@pytest.mark.parametrize(
    "imports",
    [
        "import multiloss, keras",
        "import keras, multiloss",
        "from multiloss import oracles; import importlib.util; importlib.util.find_spec('keras'); import keras",
        "import multiloss.pairwise, keras",
        "from multiloss import dice_coef; import keras",
    ],
)
def test_losses_are_registered_whatever_is_imported_first(imports):
    names = ["multiloss>PairwiseUserLoss", "multiloss>dice_loss"]
    program = f"{imports}; print([keras.saving.get_registered_object(name) is not None for name in {names}])"
    assert run(program) == "[True, True]\n"


def test_every_module_can_be_imported_first():
    """In one process, from which multiloss is removed before each: Keras takes seconds to import."""
    program = f"""
import importlib, sys
for module in {MODULES}:
    for name in [name for name in sys.modules if name.partition(".")[0] == "multiloss"]:
        del sys.modules[name]
    importlib.import_module(module)
    import multiloss
    assert multiloss.dice_loss().name == "dice_loss_smooth_1e-05", module
"""
    run(program)


def test_jax_with_64_bits_has_gradients_of_64_bits(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    program = (
        "import jax, numpy as np; from multiloss import pairwise_user_loss as loss; "
        "g = jax.grad(lambda x: loss(np.array([1, 1]), x).sum())(np.array([[0.0, 0], [3, 4]])); print(g.dtype, g[1])"
    )
    assert run(program) == "float64 [0.6 0.8]\n"


def test_a_model_saved_here_loads_in_another_process(tmp_path):
    for number, loss in enumerate([multiloss.dice_loss(1.0, 0.5), multiloss.PairwiseUserLoss(margin=2.5)]):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        model.compile(loss=loss)
        path = tmp_path / f"{number}.keras"
        model.save(path)
        program = f"import multiloss, keras; print(keras.models.load_model({str(path)!r}).loss.get_config())"
        assert run(program) == f"{loss.get_config()}\n"


def test_under_tox_the_wheel_is_tested_not_the_checkout():
    if "TOX_ENV_DIR" in os.environ:
        assert Path(os.environ["TOX_ENV_DIR"]) in PACKAGE.parents
    assert (PACKAGE / "py.typed").exists()
