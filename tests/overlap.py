"""What the tests of the overlap losses share: their names, how close they are to their oracles, and a call by name."""

import pytest
from cases import CASES
from keras import ops

from multiloss import losses

# The class of each function of the table that has one.
CLASS_OF = {
    case.function.func.__name__: case.loss.func
    for case in CASES.values()
    if isinstance(case.loss.func, type) and issubclass(case.loss.func, losses.OverlapLoss)
}
# All but `cldice`, which needs images.
NAMES = sorted(CLASS_OF.keys() - {"cldice"})
EACH = pytest.mark.parametrize("name", NAMES)
# float32 rounds to 6e-8; losses of some dozen pixels are of order 1.
CLOSE = {"rtol": 0, "atol": 2e-6}


def values(name, y, x, **arguments):
    return ops.convert_to_numpy(getattr(losses, name)(y, x, **arguments))
