"""What frameworks compiled they keep in reference cycles, gigabytes of it, for which Python looks too seldom."""

import gc
import itertools

import pytest

_tests = itertools.count(1)


@pytest.fixture(autouse=True)
def collected():
    yield
    if next(_tests) % 50 == 0:
        gc.collect()
