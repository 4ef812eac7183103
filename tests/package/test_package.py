"""The package as a whole: names, what importing it imports, runnable examples, the wheel."""

import doctest
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from cases import CASES

import multiloss
from multiloss import losses, metrics

PACKAGE = Path(multiloss.__file__).parent
MODULES = sorted(
    "multiloss." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"
)


def test_public_names_are_those_of_the_rooms():
    """Functions are in `losses`, metrics in `metrics`; on top are the classes, and what people take from there."""
    names = [name for name in MODULES if re.match(r"multiloss\.(ids|(overlap|pairwise)\.)", name)]
    modules = [importlib.import_module(name) for name in names]
    named = {name: getattr(module, name) for module in modules for name in getattr(module, "__all__", [])}
    bases = {
        "Counts",
        "OverlapLoss",
        "OverlapOptions",
        "PairOptions",
        "PairwiseLoss",
        "PairwiseOptions",
        "RatioOptions",
    }
    assert {*losses.__all__, *metrics.__all__, "encode_ids"} == {*named, *bases}
    on_top = {name for name, value in named.items() if isinstance(value, type)}
    on_top |= {"dice_coef", "dice_loss", "encode_ids", "pairwise_user_loss"}
    assert sorted(multiloss.__all__) == sorted(["losses", "metrics", "oracles", *on_top])
    for name, value in named.items():
        homes = [home for home in (multiloss, losses, metrics) if name in home.__all__]
        assert homes
        assert all(getattr(home, name) is value for home in homes)
    assert set(multiloss.__all__) <= set(dir(multiloss))
    with pytest.raises(AttributeError, match="module 'multiloss' has no attribute 'triplet'"):
        _ = multiloss.triplet


@pytest.mark.parametrize("module", MODULES)
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
    made = {type(case.loss()).__name__ for case in CASES.values()}
    for room in ("multiloss.overlap", "multiloss.pairwise"):
        room = importlib.import_module(room)
        modules = [
            importlib.import_module(f"{room.__name__}.{found.name}") for found in pkgutil.iter_modules(room.__path__)
        ]
        for name in {name for module in modules for name in getattr(module, "__all__", [])} - {*metrics.__all__}:
            assert name in losses.__all__, f"{name} is missing from multiloss/losses.py"
            assert name in covered | made, f"{name} is missing from CASES in tests/cases.py"
            if name.islower():
                assert name in multiloss.oracles.__all__, f"{name} is missing from multiloss/oracles"
            else:
                assert name in multiloss.__all__, f"{name} is missing from `__all__` of multiloss"


FORMULAS = ["dice", "focal", "focal_tversky", "jaccard", "log_cosh_dice", "mcc", "tversky"]


@pytest.mark.parametrize("name", [*FORMULAS, "contrastive", "pairwise_user_loss", "supcon"])
def test_a_loss_of_one_formula_is_a_file_of_70_lines(name):
    source = Path(inspect.getsourcefile(getattr(losses, name))).read_text()
    assert len(source.splitlines()) <= 70


@pytest.mark.parametrize("base", [losses.OverlapLoss, losses.PairwiseLoss])
def test_shared_options_are_written_once_and_their_types_beside(base):
    """The constructor shows them; the dictionary tells type checkers what a derived class passes on."""
    options = losses.OverlapOptions if base is losses.OverlapLoss else losses.PairwiseOptions
    parameters = inspect.signature(base).parameters
    assert sorted(parameters) == sorted(options.__annotations__)
    for name, parameter in parameters.items():
        assert parameter.annotation == options.__annotations__[name], name
        assert parameter.kind == parameter.KEYWORD_ONLY
        assert (
            base is losses.PairwiseLoss
            or name in ("reduction", "name", "dtype")
            or parameter.default == getattr(base, name)
        )


def test_a_class_shows_all_its_arguments():
    shown = inspect.signature(losses.TverskyLoss).parameters
    assert list(shown)[:3] == ["alpha", "beta", "mode"]
    assert shown["smooth"].default == 1e-5
    assert "average" not in inspect.signature(losses.GeneralizedDiceLoss).parameters
    assert list(inspect.signature(losses.DiceLoss())._parameters) == ["y_true", "y_pred", "sample_weight"]


def public_objects():
    for home in (multiloss, multiloss.losses, multiloss.oracles):
        for name in sorted(set(home.__all__) - {"losses", "metrics", "oracles"}):
            public = getattr(home, name)
            if not (isinstance(public, type) and issubclass(public, dict)):  # a TypedDict, which a class describes
                yield pytest.param(public, id=f"{home.__name__}.{name}")


@pytest.mark.parametrize("public", list(public_objects()))
def test_docstrings_are_complete_and_their_examples_run(public):
    assert re.search("Args:|the arguments|the same arguments|Attributes:", public.__doc__)
    assert "Examples:" in public.__doc__
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


@pytest.mark.parametrize(
    "imports",
    [
        "import multiloss, keras",
        "import keras, multiloss",
        "from multiloss import oracles; import importlib.util; importlib.util.find_spec('keras'); import keras",
        pytest.param("import multiloss.losses, keras", marks=pytest.mark.full),
        pytest.param("from multiloss import dice_coef; import keras", marks=pytest.mark.full),
    ],
)
def test_losses_are_registered_whatever_is_imported_first(imports):
    names = ["multiloss>PairwiseUserLoss", "multiloss>BatchDiceLoss"]
    program = f"{imports}; print([keras.saving.get_registered_object(name) is not None for name in {names}])"
    assert run(program) == "[True, True]\n"


# Each takes nearly 2 s, so that the default tier has one of each kind: what a loss stands on, a seam, and a loss.
@pytest.mark.parametrize(
    "modules",
    [
        pytest.param(["multiloss._arguments", "multiloss.distribution", "multiloss.overlap.mcc_loss"], id="some"),
        pytest.param(MODULES, id="all", marks=pytest.mark.full),
    ],
)
def test_every_module_can_be_imported_first(modules):
    """In a process of its own, in which nothing of Keras was imported before; only what JAX takes seconds to import."""
    program = f"""
import importlib, os, sys, traceback
import h5py, jax, jax.numpy, numpy, rich
failed = []
for name in {modules}:
    child = os.fork()
    if not child:
        try:
            assert not {{"keras", "multiloss"}} & sys.modules.keys()
            importlib.import_module(name)
            import keras, multiloss
            assert keras.saving.get_registered_object("multiloss>PairwiseUserLoss") is multiloss.PairwiseUserLoss
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
print(failed)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[]\n", done.stderr


def test_jax_with_64_bits_has_gradients_of_64_bits(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    program = (
        "import jax, numpy as np; from multiloss import pairwise_user_loss as loss; "
        "x = np.array([[0.0, 0], [3, 4]]); "
        "g = jax.grad(lambda x: loss(np.array([1, 1]), x).sum())(x); print(g.dtype, g[1]); "
        "from multiloss import PairwiseUserLoss; print(PairwiseUserLoss(dtype='float64')(np.array([1, 1]), x).dtype)"
    )
    assert run(program) == "float64 [0.6 0.8]\nfloat64\n"


def test_values_on_a_backend_without_derivatives(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    program = (
        "from multiloss.losses import contrastive; print(contrastive([7, 7, 9], [[0.0, 0], [3, 4], [0, 1]]).tolist())"
    )
    assert run(f"import multiloss; {program}") == "[6.25, 6.25, 0.0]\n"


def test_a_model_saved_here_loads_in_another_process(tmp_path):
    made, paths = [multiloss.dice_loss(1.0, 0.5), multiloss.PairwiseUserLoss(margin=2.5)], []
    for loss in made:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        model.compile(loss=loss)
        paths.append(str(tmp_path / f"{loss.name}.keras"))
        model.save(paths[-1])
    program = "import multiloss, keras\n"
    program += f"for path in {paths}: print(keras.models.load_model(path).loss.get_config())"
    assert run(program) == "".join(f"{loss.get_config()}\n" for loss in made)


def test_under_tox_the_wheel_is_tested_not_the_checkout():
    if "TOX_ENV_DIR" in os.environ:
        assert Path(os.environ["TOX_ENV_DIR"]) in PACKAGE.parents
    assert (PACKAGE / "py.typed").exists()
