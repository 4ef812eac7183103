"""Records: trees of numbers and text in a file, and what is said of files that are none."""

import json

import numpy as np
import pytest

from multiloss.check import recorded
from multiloss.check.targets import TargetError

TREE = {
    "text": 'é, "quoted"',
    "nothing": None,
    "yes": True,
    "count": 2**40,
    "numbers": [1.5, float("inf"), float("-inf")],
    "arrays": (np.arange(6, dtype=np.int64).reshape(2, 3), np.float32([[np.nan, 1e-45]]), np.zeros((0, 3), bool)),
    "empty": {},
    "nested": {"a": [{"b": (np.float64(0.25),)}]},
    3: "a key that is no text",
}


def test_a_tree_comes_back_as_it_was(tmp_path):
    path = tmp_path / "ref.npz"
    recorded.write(path, "model", TREE)
    again = recorded.read(path, "model")
    assert again.keys() == TREE.keys()
    for key in ("text", "nothing", "yes", "count", "empty", "numbers", 3):
        assert again[key] == TREE[key]
        assert type(again[key]) is type(TREE[key])
    for one, other in zip(again["arrays"], TREE["arrays"], strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert again["nested"]["a"][0]["b"][0] == 0.25
    assert list(tmp_path.iterdir()) == [path]  # nothing unfinished is left


def test_a_number_that_is_not_one_stays_so(tmp_path):
    recorded.write(tmp_path / "nan.npz", "model", float("nan"))
    assert np.isnan(recorded.read(tmp_path / "nan.npz", "model"))


@pytest.mark.parametrize("item", [np.array([object()]), np.array(["text"]), {1, 2}, object()])
def test_what_is_neither_number_nor_text_is_refused(item, tmp_path):
    with pytest.raises(TypeError, match="a record cannot hold"):
        recorded.write(tmp_path / "ref.npz", "model", [item])
    assert not list(tmp_path.iterdir())


def test_an_older_record_is_kept_where_a_new_one_fails(tmp_path, monkeypatch):
    path = tmp_path / "ref.npz"
    recorded.write(path, "model", 1)

    def full(file, **_):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="no space"):
        recorded.write(path, "model", 2)
    assert recorded.read(path, "model") == 1
    assert list(tmp_path.iterdir()) == [path]


def packed(path, header, **arrays):
    np.savez(path, header=np.array(json.dumps(header)), **arrays)


GOOD = {"schema": 1, "kind": "model", "content": ["is", 1]}
BAD = {
    "text": (lambda path: path.write_text("no numbers"), "is no record, or a damaged one"),
    "nothing": (lambda path: path.write_bytes(b""), "is no record, or a damaged one"),
    "arrays alone": (lambda path: np.savez(path, x=np.ones(2)), "is no record, or a damaged one"),
    "pickled": (lambda path: np.savez(path, header=np.array([object()])), "is no record, or a damaged one"),
    "another schema": (lambda path: packed(path, GOOD | {"schema": 2}), "of schema 1. Received: schema 2"),
    "another kind": (lambda path: packed(path, GOOD | {"kind": "loss"}), "of a model. Received: a record of a loss"),
    "a lost array": (lambda path: packed(path, GOOD | {"content": ["array", "a7"]}), "is a damaged record: KeyError"),
    "an unknown part": (lambda path: packed(path, GOOD | {"content": ["set", []]}), "unknown part 'set'"),
    "no content": (lambda path: packed(path, {"schema": 1, "kind": "model"}), "is a damaged record: KeyError"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_record_is_told(name, tmp_path):
    path = tmp_path / "ref.npz"
    make, message = BAD[name]
    make(path)
    with pytest.raises(TargetError, match=r"^`against` ") as caught:
        recorded.read(path, "model")
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(TargetError, match=r"`against` must be a file that exists\. Received: "):
        recorded.read(tmp_path / "ref.npz", "model")


@pytest.mark.parametrize("place", ["ref.json", "none/ref.npz"])
def test_a_place_that_cannot_be_written_is_told(place, tmp_path):
    with pytest.raises(TargetError, match=r"`record` must be an \.npz file in a folder that exists\. Received: "):
        recorded.check(tmp_path / place)
