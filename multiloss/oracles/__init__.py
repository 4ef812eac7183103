"""The losses as plain NumPy loops, in float64, written from their definitions: what every other form is held to.

Each function takes the arguments of the loss of its name, as arrays, lists or pandas objects, and loops over pairs or
pixels. Slow, and meant to be read. Neither Keras nor the rest of multiloss is used here.
"""

from multiloss.oracles import overlap, pairwise
from multiloss.oracles.overlap import *
from multiloss.oracles.pairwise import *

__all__ = overlap.__all__ + pairwise.__all__
