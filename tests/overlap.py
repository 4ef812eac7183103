"""What the tests of the overlap losses share: their names, how close they are to their oracles, and a call by name."""

import pytest
from keras import ops

import multiloss
from multiloss import oracles

# All but `cldice`, which needs images, and those of the whole batch.
NAMES = sorted(vars(multiloss.overlap).keys() & set(oracles.__all__) - {"cldice", "dice_coef", "dice_loss"})
EACH = pytest.mark.parametrize("name", NAMES)
# float32 rounds to 6e-8; losses of some dozen pixels are of order 1.
CLOSE = {"rtol": 0, "atol": 2e-6}


def values(name, y, x, **arguments):
    return ops.convert_to_numpy(getattr(multiloss, name)(y, x, **arguments))
