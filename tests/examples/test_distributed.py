"""The example as a user launches it, on the backend at hand: replicas train as one device does."""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples/distributed.py"
LAUNCHERS = {"torch": ["-m", "torch.distributed.run", "--nproc-per-node", "2"]}  # torchrun


@pytest.mark.full
def test_distributed():
    backend = keras.backend.backend()
    count = {"jax": 4}.get(backend, 2)
    output = subprocess.run(
        [sys.executable, *LAUNCHERS.get(backend, []), EXAMPLE],
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for replica in range(count):
        rows = f"{replica * 240 // count} to {(replica + 1) * 240 // count - 1}"
        assert f"replica {replica} of {count}: rows {rows}\n" in output
    line = f"{count} replicas, across_replicas=(True |False): .*; losses differ by (.*), weights by (.*)\n"
    across, alone = re.findall(line, output)
    # Promised: 1e-5; measured: 3e-7. Without, half of the pairs are missing, but for JAX, whose arrays are whole.
    assert float(across[1]) <= 1e-5
    assert float(across[2]) <= 1e-5
    assert (float(alone[1]) > 0.1) == (backend != "jax")
