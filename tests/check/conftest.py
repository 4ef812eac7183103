"""Workers for all tests of the checker: to import the frameworks takes longer than most of these tests do."""

import functools

import pytest

from multiloss.check import Workers, check_loss, cli


@pytest.fixture(scope="session")
def workers():
    with Workers() as kept:
        yield kept


@pytest.fixture
def command(workers, monkeypatch):
    """`main` with these workers: `multiloss check` has no option for that, and starts its own."""
    monkeypatch.setattr(cli, "check_loss", functools.partial(check_loss, workers=workers))
    return cli.main
