"""What needs all three backends at once, one process each: one training run, one saved model, the same numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BACKENDS = ["tensorflow", "jax", "torch"]
EXAMPLE = Path(__file__).parents[2] / "examples/user_embeddings.py"


def run(backend, *command, cwd):
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.full
def test_the_example_meets_its_target_and_trains_alike_on_every_backend(tmp_path):
    """As a user runs it; it draws its picture."""
    results, picture = {}, tmp_path / "user_embeddings.png"
    for backend in BACKENDS:
        output = run(backend, EXAMPLE, "--json", f"{backend}.json", cwd=tmp_path)
        results[backend] = result = json.loads((tmp_path / f"{backend}.json").read_text())
        assert f"Backend: {backend}" in output
        assert f"{result['before']:.3f} before, {result['after']:.3f} after" in output
        assert "Epoch 40/40" in output
        assert len(result["loss"]) == 40
        assert 0.28 < result["before"] < 0.33
        assert picture.read_bytes().startswith(b"\x89PNG")
        picture.unlink()
    reference = results["jax"]
    for result in results.values():
        # The same weights and batches, so that only rounding differs: by 1e-7 at first, and by 1e-6 after 200 steps as
        # measured. 1e-4 leaves room for other processors, and is a thirtieth of what shuffling otherwise made.
        np.testing.assert_allclose(result["loss"], reference["loss"], rtol=1e-4)
        assert result["loss"][0] == pytest.approx(reference["loss"][0], rel=1e-5)
        assert result["after"] == pytest.approx(reference["after"], abs=1e-3)
        assert result["after"] <= 0.23


MODELS = """
import sys
import keras, numpy as np
from multiloss import PairwiseUserLoss, dice_loss, encode_ids
folder, make, *tests = sys.argv[1:]
rng = np.random.default_rng(0)
x = rng.normal(size=(12, 4)).astype("float32")
kinds = {
    "pairwise": (encode_ids(["ann", "bob", "eve"] * 4), PairwiseUserLoss(margin=1.5, reduction="sum")),
    "dice": (rng.integers(0, 2, (12, 3)), dice_loss(smooth=1.0, thresh=0.5)),
}
for kind, (y, loss) in kinds.items():
    path = f"{folder}/{kind}.keras"
    if make == "save":
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "sigmoid")])
        model.compile(loss=loss)
        model.save(path)
    model = keras.models.load_model(path)
    # Saved by JAX it asks for compiling, for which torch takes half a minute.
    model.jit_compile, model.run_eagerly = False, True
    print(model.evaluate(x, y, batch_size=12, verbose=0), model.loss.get_config())
if tests:
    sys.path += tests
    import foreign, json
    print(json.dumps(foreign.complaints()))
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, request):
    """What one process of each backend printed, since to import a framework takes longer than what is tested.

    Where tensors of the others are asked for, it imports all of them.
    """
    folder = tmp_path_factory.mktemp("models")
    saved = run("jax", "-c", MODELS, folder, "save", cwd=folder)
    named = "test_tensors_of_another_framework_are_refused_by_name"
    asked = {item.callspec.params["backend"] for item in request.session.items if item.name.startswith(named)}
    tests = {backend: [Path(__file__).parent] if backend in asked else [] for backend in BACKENDS}
    loaded = {backend: run(backend, "-c", MODELS, folder, "load", *tests[backend], cwd=folder) for backend in BACKENDS}
    return {name: output.strip().splitlines() for name, output in {"saved": saved, **loaded}.items()}


def test_models_saved_on_one_backend_give_the_same_losses_on_the_others(outputs):
    assert all(len(output) >= 2 for output in outputs.values())
    for told in zip(*(output[:2] for output in outputs.values()), strict=True):
        losses, configs = zip(*(line.split(" ", 1) for line in told), strict=True)
        # float32, and another order of summation on each backend
        np.testing.assert_allclose(np.array(losses, float), float(losses[0]), rtol=1e-5)
        assert len(set(configs)) == 1


@pytest.mark.parametrize(
    "backend",
    [pytest.param(name, marks=() if name == "torch" else pytest.mark.full) for name in BACKENDS],
)
def test_tensors_of_another_framework_are_refused_by_name(backend, outputs):
    refused, others = json.loads(outputs[backend][2])
    assert others == []
    assert refused > 100
