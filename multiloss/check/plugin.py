"""The pytest plugin: selects the backends of `multiloss.check.assert_consistent`, without importing any of them."""

from typing import Any

from multiloss.check import asserting

_HELP = "backends for multiloss.check.assert_consistent, comma-separated; default: all installed backends"


def pytest_addoption(parser: Any) -> None:
    """Add the option `--multiloss-backends` and the configuration value `multiloss_backends`."""
    parser.getgroup("multiloss").addoption("--multiloss-backends", metavar="NAMES", help=_HELP)
    parser.addini("multiloss_backends", _HELP, default="")


def pytest_configure(config: Any) -> None:
    """Pass the selected backends to `assert_consistent`."""
    names = config.getoption("--multiloss-backends") or config.getini("multiloss_backends")
    asserting.backends = [name.strip() for name in names.split(",")] if names else None
