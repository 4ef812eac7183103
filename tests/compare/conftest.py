"""Workers for all tests of comparisons: to import the frameworks takes longer than most of these tests do."""

import functools

import pytest

from multiloss.check import Workers, cli, compare_training


@pytest.fixture(scope="session")
def workers():
    with Workers() as kept:
        yield kept


@pytest.fixture
def command(workers, monkeypatch):
    """`main` with these workers: `multiloss compare` has no option for that, and starts its own."""
    monkeypatch.setattr(cli, "compare_training", functools.partial(compare_training, workers=workers))
    return cli.main
