"""What counts as rounding and who is off, of arrays written by hand: no model, no backend."""

import numpy as np
import pytest

from multiloss.check.models import stages
from multiloss.check.models.stages import Call, Item, judged

TRUE = np.random.default_rng(0).uniform(0.5, 2, (8, 4))  # of float64
NAMES = ("tensorflow", "jax", "torch")
ULP = 2.0**-24  # half a unit in the last place of float32, relative to 1


def item_of(off=(), by=0.0, wide=NAMES, wide_by=None, backends=NAMES, true=TRUE, finer=1e-15):
    """Backends that have the true values in float32 and float64, less what each rounds by in another way.

    Those `off` are so far from it, relatively, in float64 as well unless that is given.
    """

    def of(place, backend, by, rounded):
        return true * (1 + by * (backend in off) + rounded * place)

    values = {b: of(k, b, by, 2 * ULP).astype(np.float32) for k, b in enumerate(backends)}
    wide_by = by if wide_by is None else wide_by
    wides = {b: of(k, b, wide_by, finer) for k, b in enumerate(backends) if b in wide}
    moved = {b: [value * np.float32(1 + 2 * ULP), value * np.float32(1 - 2 * ULP)] for b, value in values.items()}
    return Item("it", values, moved, wides)


@pytest.mark.parametrize("wide", [(), NAMES])
def test_rounding_is_not_off(wide):
    found = judged(item_of(["torch"], 1e-6, wide, wide_by=0.0), set())
    assert not found.off
    assert 0 < found.errors["torch"] <= found.tolerance
    assert found.units["torch"] == found.errors["torch"] / found.rounding
    assert not found.by_wide
    assert not found.nothing
    assert not found.shape


@pytest.mark.parametrize("wide", [(), NAMES])
@pytest.mark.parametrize("backend", NAMES)
def test_the_one_that_differs_from_most_is_off(backend, wide):
    found = judged(item_of([backend], 1e-3, wide), set())
    assert found.off == [backend]
    assert found.by_wide == bool(wide)
    assert found.units[backend] > 1e3
    assert max(found.units[other] for other in NAMES if other != backend) < 4
    assert not found.imprecise
    assert (min(found.errors.values()) > 0) == bool(wide)  # the truth is of float64, or it is one of float32


def test_the_tolerance_is_what_moved_inputs_do():
    item = item_of(["torch"], 1e-4, wide=())
    assert judged(item, set()).off == ["torch"]
    for some in item.moved.values():
        some[:] = [one * np.float32(1 + 1e-5) for one in some]
    found = judged(item, set())
    assert not found.off
    assert found.rounding == pytest.approx(2e-5, rel=0.3)  # of the largest entry, a normal number of about 2


def test_what_moves_one_backend_only_allows_nothing():
    item = item_of(["torch"], 1e-3, wide=())
    item.moved["torch"] = [one * 2 for one in item.moved["torch"]]
    assert judged(item, set()).off == ["torch"]
    item.moved["torch"] = [one * np.nan for one in item.moved["torch"]]
    assert judged(item, set()).off == ["torch"]

    pair = item_of(["torch"], 1e-3, wide=(), backends=("jax", "torch"))
    pair.moved["torch"] = [one * np.nan for one in pair.moved["torch"]]
    assert judged(pair, set()).off == ["jax", "torch"]


def test_what_nothing_moves_is_rounded_by_its_size():
    item = item_of(["torch"], 1e-6, wide=())
    item.moved.clear()
    assert not judged(item, set()).off


def test_what_is_off_in_float64_alone_is_off():
    found = judged(item_of(["torch"], 0.0, wide_by=1e-3), set())
    assert found.off == ["torch"]
    assert found.by_wide


def test_in_float64_a_difference_that_float32_would_hide_is_seen():
    """Two agree to 1e-15, and none with the third, whose own error float32 explains: none is off."""
    item = item_of(["tensorflow"], 1e-6)
    found = judged(item, set())
    assert not found.off
    assert found.errors["tensorflow"] > found.errors["jax"]  # the truth is that of the two


def test_of_two_backends_either_may_be_wrong():
    for wide in ((), NAMES):
        found = judged(item_of(["torch"], 1e-3, wide, backends=("jax", "torch")), set())
        assert found.off == ["jax", "torch"]
        assert not found.by_wide
        assert found.errors["jax"] == found.errors["torch"]


def test_of_three_that_all_differ_each_is_off():
    item = item_of(["torch"], 1e-3, wide=())
    item.values["jax"] = item.values["jax"] * np.float32(1.01)
    assert judged(item, set()).off == list(NAMES)


def test_float64_of_one_backend_alone_decides_nothing():
    """It agrees with that backend's float32, right or wrong."""
    found = judged(item_of(["torch"], 1e-3, wide=["torch"], backends=("jax", "torch")), set())
    assert found.off == ["jax", "torch"]
    assert judged(item_of(["torch"], 1e-3, wide=["torch"]), set()).off == ["torch"]  # by the two others


def test_a_constant_says_nothing_of_the_precision():
    """As a table of sines in float32: what is computed from it is float64 all the same."""
    constant, narrow = {b: TRUE.astype(np.float32) for b in NAMES}, set()
    judged(Item("it", constant, {}, {b: v.astype(np.float64) for b, v in constant.items()}), narrow)
    assert not narrow


def test_rounding_of_half_precision_is_larger():
    item = item_of(["torch"], 2.0**-9, wide=())
    assert judged(item, set()).off == ["torch"]
    assert not judged(item, set(), 2.0**-8).off


def test_float64_with_the_digits_of_float32_is_narrow():
    item, narrow = item_of(), set()
    item.wide["torch"] = item.wide["torch"].astype(np.float32).astype(np.float64)
    found = judged(item, narrow)
    assert narrow == {"torch"}
    assert not found.off
    # It is told from numbers that are such anyway: counts, halves, and what float32 holds exactly.
    for exact in (np.arange(8.0), np.arange(8) / 2, np.zeros(3), np.array([np.nan, np.inf]), np.empty(0)):
        assert not stages.holds_float32(exact)
    assert not stages.holds_float32(TRUE)
    assert stages.holds_float32(np.float32([0.1, np.nan]).astype(np.float64))


def test_two_that_are_narrow_do_not_outvote_one_in_float64():
    """They agree with each other exactly, and with the third as float32 does: its digits are the truth."""
    item = item_of()
    for backend in ("tensorflow", "torch"):
        item.wide[backend] = item.wide[backend].astype(np.float32).astype(np.float64)
    found = judged(item, set())
    assert not found.off
    assert found.errors["jax"] == np.abs(item.values["jax"] - item.wide["jax"]).max()


def test_a_gradient_that_only_rounding_has_is_0():
    noise = np.random.default_rng(1).standard_normal((3, 4)) * 1e-8
    values = {b: part.astype(np.float32) for b, part in zip(NAMES, noise, strict=True)}
    moved = {b: [-value, value[::-1]] for b, value in values.items()}
    wide = {b: part * 1e-9 for b, part in zip(NAMES, noise, strict=True)}
    found = judged(Item("bias", values, moved, wide), set())
    assert found.nothing
    assert not found.off
    # A true gradient, and one that is exactly 0 everywhere, are not such.
    assert not judged(item_of(), set()).nothing
    assert not judged(item_of(true=np.zeros(3)), set()).nothing


def test_shapes_that_differ_are_said():
    item = item_of()
    item.values["jax"] = item.values["jax"][:, :1]
    found = judged(item, set())
    assert found.off == ["jax"]
    assert found.shape == "[8, 4] on tensorflow, [8, 1] on jax, [8, 4] on torch"
    assert found.errors == {"jax": np.inf}


def test_float64_of_another_shape_is_left_out():
    item = item_of()
    item.wide["torch"] = item.wide["torch"][:1]
    assert not judged(item, set()).off


@pytest.mark.parametrize("wide", [(), NAMES])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_nan_on_one_backend_is_off(number, wide):
    item = item_of(wide=wide)
    for values in (item.values, item.wide):
        if "jax" in values:
            values["jax"][0, 0] = number
    found = judged(item, set())
    assert found.off == ["jax"]
    assert found.errors["jax"] == np.inf


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_nan_that_all_have_is_none_of_one_backend(number):
    true = TRUE.copy()
    true[0, 0] = number
    assert not judged(item_of(true=true), set()).off
    assert judged(item_of(["jax"], 1e-3, true=true), set()).off == ["jax"]


@pytest.mark.parametrize("shape", [(0,), (0, 4), (3, 0)])
def test_empty_arrays_agree(shape):
    found = judged(item_of(true=np.empty(shape)), set())
    assert not found.off
    assert set(found.errors.values()) == {0.0}
    assert np.isfinite(found.tolerance)


def test_integers_and_single_numbers_are_compared():
    values = {b: np.int32([1, 2, 3]) for b in NAMES}
    assert not judged(Item("ids", values, {}, {}), set()).off
    assert judged(Item("ids", values | {"jax": np.int32([1, 2, 4])}, {}, {}), set()).off == ["jax"]
    assert judged(Item("loss", {b: np.float64(0.5 + (b == "jax")) for b in NAMES}, {}, {}), set()).off == ["jax"]


def test_less_precision_in_float32_alone_is_off_if_it_is_much():
    """As TF32 has: float64 agrees everywhere, and float32 is off by more than a kernel approximates."""
    slightly = judged(item_of(["torch"], 100 * ULP, wide_by=0.0), set())
    assert slightly.errors["torch"] > stages.ROUNDINGS * slightly.rounding
    assert slightly.imprecise
    assert not slightly.off
    # Where float64 is less exact than it might be, it is exact enough for float32.
    assert not judged(item_of(["torch"], 100 * ULP, wide_by=0.0, finer=1e-9), set()).off
    # Without float64, nothing says that it is precision alone.
    assert judged(item_of(["torch"], 100 * ULP, wide=()), set()).off == ["torch"]
    much = judged(item_of(["torch"], 2.0**-11, wide_by=0.0), set())
    assert much.off == ["torch"]
    assert much.imprecise
    assert not much.by_wide


def test_what_is_apart():
    assert stages.apart([1.0, np.nan, np.inf], [1.5, np.nan, np.inf]) == 0.5
    assert stages.apart([np.inf], [-np.inf]) == np.inf
    assert stages.apart([np.nan], [0.0]) == np.inf
    assert stages.apart([], []) == 0.0
    assert stages.largest([-3, 2]) == 3.0
    assert stages.largest([np.nan]) == np.inf


def test_the_usual_is_what_most_have_and_then_the_first():
    assert stages.usual({"a": 1, "b": 2, "c": 2}) == 2
    assert stages.usual({"a": 1, "b": 2, "c": 3}) == 1


# --- the items of a stage --------------------------------------------------------------------------------------------


def calls_of(*names, by=0.0):
    return [Call(name, "Dense", [TRUE], [TRUE + by], []) for name in names]


def ran(calls, moved=()):
    return {"inference": {"calls": calls, "moved": [[call.outputs for call in some] for some in moved]}}


def test_layers_have_the_order_of_the_first_backend():
    replies = {"jax": ran(calls_of("a", "c", "b")), "torch": ran(calls_of("b", "a", "d"))}
    items = list(stages.of_calls(replies, {}, "inference"))
    assert [item.name for item in items] == ["a", "b"]  # `c` and `d` are called on one only
    assert items[0].kind == "Dense"
    assert items[0].shapes == "[8, 4] -> [8, 4]"


def test_outputs_are_matched_with_what_was_moved_and_with_float64_by_name():
    reply = ran(calls_of("a", "b"), [calls_of("a", "b", by=0.5)])
    wide = ran(calls_of("b", by=0.25))
    a, b = stages.of_calls({"jax": reply, "torch": reply}, {"jax": wide}, "inference")
    assert a.wide == {}
    np.testing.assert_array_equal(b.wide["jax"], TRUE + 0.25)
    assert set(b.wide) == {"jax"}
    for item in (a, b):
        np.testing.assert_array_equal(item.moved["torch"], [TRUE + 0.5])


def test_several_outputs_are_told_apart():
    two = [Call("lstm", "LSTM", [], [TRUE, TRUE[:, :2]], [])]
    items = list(stages.of_calls({"jax": ran(two), "torch": ran(two)}, {}, "inference"))
    assert [(item.name, item.shapes) for item in items] == [
        ("lstm [0]", "nothing -> [8, 4], [8, 2]"),
        ("lstm [1]", "nothing -> [8, 4], [8, 2]"),
    ]
    one = [two[0]._replace(outputs=[TRUE])]
    assert [item.name for item in stages.of_calls({"jax": ran(two), "torch": ran(one)}, {}, "inference")] == [
        "lstm [0]"
    ]


def test_numbers_of_training_are_matched_by_name():
    def reply(**numbers):
        return {"run": numbers, "moved": [numbers, {name: value + 1 for name, value in numbers.items()}]}

    replies = {"jax": reply(loss=1.0, own=2.0), "torch": reply(loss=1.5)}
    wides = {"torch": reply(loss=1.25), "jax": reply(own=2.0)}
    (item,) = stages.of_training(replies, wides, lambda run: run)
    assert item.name == "loss"
    assert item.values == {"jax": 1.0, "torch": 1.5}
    assert item.moved == {"jax": [1.0, 2.0], "torch": [1.5, 2.5]}
    assert item.wide == {"torch": 1.25}


@pytest.mark.parametrize(("name", "loss"), [("loss", True), ("kind_loss", True), ("accuracy", False), ("lossy", False)])
def test_losses_are_told_from_metrics_by_name(name, loss):
    assert stages.is_loss(name) == loss


def test_where_float64_is_another_number_most_of_float32_are_right():
    """As of a clip at 1 - 1e-7: one backend does not clip, and float32 rounds the end of it."""
    values = {"tensorflow": np.array([20.0]), "jax": np.array([15.94]), "torch": np.array([15.94])}
    wide = {"tensorflow": np.array([20.1]), "jax": np.array([16.12]), "torch": np.array([16.12])}
    found = stages.judged(stages.Item("it", values, {}, wide), set())
    assert found.off == ["tensorflow"]
    assert not found.by_wide
