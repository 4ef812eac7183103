"""Workers for all tests here."""

import pytest

from multiloss.check import Workers


@pytest.fixture(scope="session")
def workers():
    with Workers() as kept:
        yield kept
