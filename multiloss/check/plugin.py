"""The pytest plugin: which backends `multiloss.check.assert_consistent` uses. Imports neither Keras nor a backend."""

from typing import Any

from multiloss.check import asserting

_HELP = "backends of multiloss.check.assert_consistent, comma-separated; by default those installed"


def pytest_addoption(parser: Any) -> None:
    """Add `--multiloss-backends`, and `multiloss_backends` to the configuration."""
    parser.getgroup("multiloss").addoption("--multiloss-backends", metavar="NAMES", help=_HELP)
    parser.addini("multiloss_backends", _HELP, default="")


def pytest_configure(config: Any) -> None:
    """Hand the choice on."""
    names = config.getoption("--multiloss-backends") or config.getini("multiloss_backends")
    asserting.backends = [name.strip() for name in names.split(",")] if names else None
