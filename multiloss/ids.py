"""Encodes user ids of any type as integers that every backend compares exactly.

Runs on the host with NumPy only: call it once on a data set, before `fit`.
"""

import hashlib
from typing import Any

import numpy as np

__all__ = ["encode_ids"]

_EXPECTED = "a 1-D array-like of integers, strings or bytes"


def encode_ids(ids: Any, *, wide: bool = False) -> np.ndarray:
    """Encode user ids as int32, or as pairs of int32 where 32 bits are too few, for any backend to pass on unchanged.

    JAX silently wraps integers beyond 32 bits, torch rejects uint64, and no backend's loss can compare strings. Pass
    the result as the labels of a pairwise loss, which compares whole rows.

    Integers that all fit into 32 bits stay as they are, so that `fit(class_weight={7: 1.0, 8: 3.0})` weights by id.
    **With pairs it does not**: Keras takes any two columns for one-hot classes, and silently weights by the number of
    the larger one. Use a `sample_weight` instead: `np.array([weight_of[name] for name in names])`.

    Ids that are equal in Python get the same code (`"7"`, `b"7"` and `7` are three ids). Different integers always get
    different codes: their two's complement, low half first. Strings and bytes are hashed to 64 bits with BLAKE2b, which
    gives the same code in every process, run and machine. The probability that any two of n different names collide is
    about n^2 / 2^65: 3e-8 for a million names. If names and integers are mixed, a given name collides with a given
    integer with probability 2^-64.

    Args:
        ids: array-like `[N]` of integers of any width up to 64 bits, booleans, `str`, `bytes`, or Python objects of
            these types: a list, an array, a pandas Series or Index, a tensor on the host. (NumPy's own arrays of bytes
            drop trailing NULs beforehand.)
        wide: whether to return pairs in any case, for codes of two calls that are compared with each other, as labels
            with references. Strings always give pairs.

    Returns:
        int32 array: `[N]` if all ids are integers in [-2^31, 2^31), or if there are none; `[N, 2]` otherwise.

    Raises:
        TypeError: for floats (beyond 2^53 they do not distinguish integers; convert them to an integer type first) and
            for elements of any other type, and for `wide` that is not a boolean.
        ValueError: for missing values (None, NaN, NA, NaT, masked entries), for a rank other than 1, for integers
            outside [-2^63, 2^64), and for negative integers together with integers of 2^63 and more, which do not fit
            into 64 bits. For the same reason, codes of -1 and 2^64 - 1 from two different calls are equal.

    Examples:
        >>> from multiloss import encode_ids
        >>> encode_ids([7, -1]).tolist()
        [7, -1]
        >>> encode_ids([7, -1, 2**40 + 5]).tolist()
        [[7, 0], [-1, -1], [5, 256]]
        >>> codes = encode_ids(["ann", "bob", "ann"])
        >>> (codes[0] == codes[2]).all(), (codes[0] == codes[1]).all()
        (np.True_, np.False_)
    """
    if not isinstance(wide, bool):
        raise TypeError(f"`wide` must be True or False. Received: {wide!r} of type {type(wide).__name__}")
    if np.ma.is_masked(ids):
        raise ValueError("`ids` must have no missing values. Received: masked entries")
    if isinstance(ids, (list, tuple)):
        # As an array of objects: NumPy would convert [1, "1"] to two equal strings, and [2**63, -1] to floats.
        array = np.empty(len(ids), dtype=object)
        for index, value in enumerate(ids):
            array[index] = value
    else:
        array = np.asarray(ids)
    if array.ndim != 1:
        raise ValueError(f"`ids` must be {_EXPECTED}. Received shape: {array.shape}")
    if array.dtype.kind in "iub":
        fits = not array.size or -(2**31) <= array.min() <= array.max() < 2**31
        return array.astype(np.int32) if fits and not wide else split_integers(array)

    values = array.tolist()
    _check_elements(values, array.dtype)
    if not wide and all(not isinstance(value, (str, bytes)) and -(2**31) <= value < 2**31 for value in {*values}):
        return np.array(values, dtype=np.int32)
    codes = {value: _hash(value) if isinstance(value, (str, bytes)) else int(value) % 2**64 for value in set(values)}
    return split_integers(np.array([codes[value] for value in values], dtype=np.uint64))


def split_integers(array: np.ndarray) -> np.ndarray:
    """Split integers `[N]` or `[N, K]` into their low and high 32 bits: int32 `[N, 2 * K]`."""
    columns = array if array.ndim == 2 else array[:, None]
    wide = np.ascontiguousarray(columns, dtype="<u8" if array.dtype.kind == "u" else "<i8")
    return wide.view("<i4").astype(np.int32)


def _check_elements(values: list[Any], dtype: np.dtype) -> None:
    types = {type(value) for value in values}
    if any(kind.__name__ in ("NoneType", "NAType", "NaTType") for kind in types) or any(
        isinstance(value, (float, np.floating)) and value != value for value in values
    ):
        raise ValueError("`ids` must have no missing values. Received: None, NaN, NA or NaT")
    for kind in sorted(types, key=lambda kind: kind.__name__):
        if issubclass(kind, (list, tuple, np.ndarray)):
            raise ValueError(f"`ids` must be {_EXPECTED}. Received elements of type {kind.__name__}")
        if not issubclass(kind, (int, np.integer, np.bool_, str, bytes)):
            raise TypeError(f"`ids` must be {_EXPECTED}. Received: {kind.__name__} (dtype {dtype})")
    integers = [int(value) for value in set(values) if not isinstance(value, (str, bytes))]
    low, high = min(integers, default=0), max(integers, default=0)
    if low < -(2**63) or high >= 2**64:
        raise ValueError("`ids` must be integers in [-2**63, 2**64). Received an integer outside")
    if low < 0 and high >= 2**63:
        raise ValueError("`ids` must not mix negative integers with integers of 2**63 and more. Received both")


def _hash(name: str | bytes) -> int:
    # `person` gives str and bytes of one name different codes, as Python does; "surrogatepass" accepts any str.
    data, kind = (name, b"bytes") if isinstance(name, bytes) else (name.encode("utf-8", "surrogatepass"), b"str")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=kind).digest(), "little")
