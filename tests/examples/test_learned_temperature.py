"""The example as a user runs it, on the backend at hand: the temperature is learned, and the digits are told apart."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples/learned_temperature.py"


@pytest.mark.full
def test_learned_temperature():
    output = subprocess.run([sys.executable, EXAMPLE], check=True, capture_output=True, text=True).stdout
    before, after = map(float, re.search(r"Loss: (.*) before, (.*) after", output).groups())
    assert after < 0.8 * before
    before, after = map(float, re.search(r"Temperature: (.*) before, (.*) after", output).groups())
    assert before == 1
    assert 0.05 < after < 0.5
    assert float(re.search(r"Nearest neighbour of its class: (.*)", output).group(1)) > 0.95
