"""The example as a user runs it, on the backend at hand: it meets its target and draws its picture."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples/user_embeddings.py"


# The README's first command is for JAX; the full tier has the others.
@pytest.mark.parametrize(
    "backend",
    [pytest.param(keras.backend.backend(), marks=() if keras.backend.backend() == "jax" else pytest.mark.full)],
)
def test_user_embeddings(backend, tmp_path):
    output = subprocess.run(
        [sys.executable, EXAMPLE, "--json", "result.json"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    result = json.loads((tmp_path / "result.json").read_text())
    assert len(result["loss"]) == 40
    assert 0.28 < result["before"] < 0.33
    assert result["after"] <= 0.23
    assert f"{result['before']:.3f} before, {result['after']:.3f} after" in output
    assert "Epoch 40/40" in output
    assert (tmp_path / "user_embeddings.png").read_bytes().startswith(b"\x89PNG")
