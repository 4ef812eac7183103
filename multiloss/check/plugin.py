"""The pytest plugin: selects the backends of the assertions of `multiloss.check`, without importing any of them."""

from typing import Any

from multiloss.check import asserting

_HELP = "backends for the assertions of multiloss.check, comma-separated; default: all installed backends"


def pytest_addoption(parser: Any) -> None:
    """Add the option `--multiloss-backends` and the configuration value `multiloss_backends`."""
    parser.getgroup("multiloss").addoption("--multiloss-backends", metavar="NAMES", help=_HELP)
    parser.addini("multiloss_backends", _HELP, default="")


def pytest_configure(config: Any) -> None:
    """Pass the selected backends to the assertions."""
    names = config.getoption("--multiloss-backends") or config.getini("multiloss_backends")
    asserting.backends = [name.strip() for name in names.split(",")] if names else None
