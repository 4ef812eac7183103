"""`encode_ids`: lossless for integers, stable for text, an error for anything that would merge ids."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from multiloss import encode_ids

EXTREMES = {
    "int64": [-(2**63), -(2**32), -1, 0, 1, 2**24, 2**24 + 1, 2**31, 2**32, 2**32 + 1, 2**63 - 1],
    "uint64": [0, 1, 2**32, 2**53, 2**53 + 1, 2**63, 2**64 - 1],
    "int32": [-(2**31), -1, 0, 2**31 - 1],
    "uint8": [0, 1, 255],
}


def decode(codes):
    low, high = codes.astype(np.int64).T
    return (high * 2**32 + (low % 2**32)).tolist()


@pytest.mark.parametrize("dtype", EXTREMES)
def test_integers_are_stored_losslessly(dtype):
    values = EXTREMES[dtype]
    codes = encode_ids(np.array(values, dtype=dtype), wide=True)
    assert codes.shape == (len(values), 2)
    assert codes.dtype == np.int32
    assert [code % 2**64 for code in decode(codes)] == [value % 2**64 for value in values]


@pytest.mark.parametrize("dtype", ["int32", "uint8"])
def test_integers_that_all_fit_into_32_bits_stay_as_they_are(dtype):
    values = EXTREMES[dtype]
    for ids in (np.array(values, dtype=dtype), np.array(values, np.int64), values, np.array(values, object)):
        codes = encode_ids(ids)
        assert (codes.tolist(), codes.dtype) == (values, np.int32)
    for wider in (2**31, -(2**31) - 1):
        assert encode_ids(np.array([wider])).shape == (1, 2)
        assert encode_ids([*values, wider]).tolist() == encode_ids([*values, wider], wide=True).tolist()


@pytest.mark.parametrize("dtype", EXTREMES)
def test_every_container_gives_the_same_codes(dtype):
    values = EXTREMES[dtype]
    array = np.array(values, dtype=dtype)
    expected = encode_ids(array)
    containers = [
        values,
        tuple(values),
        list(array),
        array.astype(object),
        array.astype(array.dtype.newbyteorder()),
        np.repeat(array, 2)[::2],  # not contiguous
        pd.Series(array),
        pd.Index(array),
        pd.Series(array, dtype=dtype.replace("u", "U", 1).replace("int", "Int")),  # pandas' nullable integers
        pd.Series(array).astype("category"),
    ]
    for container in containers:
        np.testing.assert_array_equal(encode_ids(container), expected)


def test_text_is_hashed_to_known_codes():
    # Written down once: a change would silently disagree with the codes of data already encoded.
    assert encode_ids(["ann", "", "é", b"ann"]).tolist() == [
        [875715015, -1903052115],
        [-88173931, 303375467],
        [1032762623, 1813225266],
        [-1669498563, 394014581],
    ]


def test_text_of_every_container_gives_the_same_codes():
    names = ["ann", "bob", "ann", "Zoë"]
    expected = encode_ids(names)
    assert len(np.unique(expected, axis=0)) == 3
    np.testing.assert_array_equal(expected[0], expected[2])
    for container in [
        np.array(names),
        np.array(names, dtype=object),
        np.array(names, dtype=np.dtypes.StringDType()),
        pd.Series(names),
        pd.Series(names, dtype="string"),
        pd.Series(names, dtype="category"),
        pd.Index(names),
    ]:
        np.testing.assert_array_equal(encode_ids(container), expected)
    raw = [name.encode() for name in names]
    np.testing.assert_array_equal(encode_ids(np.array(raw)), encode_ids(raw))


def test_ids_are_one_if_python_says_they_are_equal():
    mixture = [1, True, np.int64(1), "1", b"1", 2**64 - 1]
    codes = encode_ids(mixture)
    equal = (codes[:, None] == codes[None]).all(axis=-1)
    np.testing.assert_array_equal(equal, [[a == b for b in mixture] for a in mixture])
    np.testing.assert_array_equal(encode_ids(np.array([True, False])), [1, 0])
    np.testing.assert_array_equal(encode_ids(np.array([True, False]), wide=True), [[1, 0], [0, 0]])


def test_every_process_gives_the_same_codes():
    program = "from multiloss import encode_ids; print(encode_ids(['ann', b'bob', 'Zo\\u00eb']).tolist())"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert outputs == {f"{encode_ids(['ann', b'bob', 'Zoë']).tolist()}\n"}


def test_a_hundred_thousand_names_have_as_many_codes():
    names = [f"user-{number}" for number in range(100_000)]
    assert len(np.unique(encode_ids(names), axis=0)) == len(names)


@pytest.mark.parametrize(
    "empty", [[], (), np.array([], np.int64), np.array([], dtype=str), pd.Series([], dtype=object)]
)
def test_no_ids_give_no_codes(empty):
    assert encode_ids(empty).shape == (0,)
    assert encode_ids(empty, wide=True).shape == (0, 2)
    assert encode_ids(empty).dtype == np.int32


MISSING = "`ids` must have no missing values. Received: None, NaN, NA or NaT"
EXPECTED = "`ids` must be a 1-D array-like of integers, strings or bytes. Received"
ERRORS = [
    ([1, None], ValueError, MISSING),
    (["a", float("nan")], ValueError, MISSING),
    (np.array([1.0, np.nan]), ValueError, MISSING),
    (pd.Series([1, None]), ValueError, MISSING),
    (pd.Series([1, None], dtype="Int64"), ValueError, MISSING),
    (pd.Series(["a", None]), ValueError, MISSING),
    (pd.Series(["a", None], dtype="string"), ValueError, MISSING),
    (np.array(["2020-01-01", "NaT"], dtype="datetime64[s]"), ValueError, MISSING),
    (pd.Series([pd.Timestamp(0), pd.NaT]), ValueError, MISSING),
    (
        np.ma.array([1, 2], mask=[False, True]),
        ValueError,
        "`ids` must have no missing values. Received: masked entries",
    ),
    (np.array([1.0, 2.0]), TypeError, f"{EXPECTED}: float (dtype float64)"),
    (np.array([1, 2], np.float16), TypeError, f"{EXPECTED}: float (dtype float16)"),
    ([1, 2.0], TypeError, f"{EXPECTED}: float (dtype object)"),
    ([1, 1j], TypeError, f"{EXPECTED}: complex (dtype object)"),
    (np.array(["2020-01-01"], dtype="datetime64[s]"), TypeError, f"{EXPECTED}: datetime (dtype datetime64[s])"),
    ([{1}], TypeError, f"{EXPECTED}: set (dtype object)"),
    (7, ValueError, f"{EXPECTED} shape: ()"),
    ("ann", ValueError, f"{EXPECTED} shape: ()"),
    (np.zeros((2, 2), int), ValueError, f"{EXPECTED} shape: (2, 2)"),
    ([[1, 2], [3, 4]], ValueError, f"{EXPECTED} elements of type list"),
    ([2**64], ValueError, "`ids` must be integers in [-2**63, 2**64). Received an integer outside"),
    ([-(2**63) - 1], ValueError, "`ids` must be integers in [-2**63, 2**64). Received an integer outside"),
    (
        [-1, 2**64 - 1],
        ValueError,
        "`ids` must not mix negative integers with integers of 2**63 and more. Received both",
    ),
]


@pytest.mark.parametrize(("ids", "error", "message"), ERRORS)
def test_errors(ids, error, message):
    with pytest.raises(error) as caught:
        encode_ids(ids)
    assert str(caught.value) == message


def test_wide_is_a_boolean():
    with pytest.raises(TypeError, match=r"`wide` must be True or False\. Received: 2 of type int"):
        encode_ids([1], wide=2)
