"""Every loss of the table against its oracle: value, gradient, compiled, half precision, weights, config and `fit`."""

import functools

import keras
import numpy as np
import pytest
from cases import CASES, gradient_of
from frameworks import BACKEND, MODES, Split, evaluate
from keras import ops

EACH_CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
EACH_BATCH = pytest.mark.parametrize(
    ("case", "batch"),
    [pytest.param(case, batch, id=f"{name}-{batch}") for name, case in CASES.items() for batch in case.batches],
)

# float32 rounds to 6e-8; a value is a sum of up to 120 rounded terms, partly cancelling. Promised: 1e-6 of their sum.
VALUE = 1e-6
# A gradient divides differences of such values, or entries rounded at 1e-7 of the largest, 9 of them added up.
GRADIENT = 1e-5
# Where points are 1e-4 of the batch's width apart, float32 gives the direction from one to another to 1e-3 at best.
DELICATE = 1e-3


def upstream_for(value):
    """Weights of the values, none of them alike, so that a row in another's place shows."""
    return np.linspace(0.5, 1.5, np.size(value)).astype(np.float32).reshape(np.shape(value))


@functools.cache
def expected(case, batch):
    """Value of the oracle, weights, and gradient of the weighted sum: slow loops, the same for every mode."""
    case = CASES[case]
    y, x = case.batches[batch]
    value = np.asarray(case.oracle(y, x))
    upstream = upstream_for(value)
    oracle, point = case.tangent(case.oracle, x)
    return value, upstream, gradient_of(oracle, y, point, upstream)


def assert_agrees(name, mode, batch, **parameters):
    """Value and gradient agree with the oracle, with parameters that change neither."""
    case = CASES[name]
    y, x = case.batches[batch]
    rows, upstream, slope = expected(name, batch)
    value, gradient = evaluate(mode, functools.partial(case.function, **parameters), y, x, upstream)

    assert value.shape == rows.shape
    assert value.dtype == np.float32
    assert (np.abs(value - rows) <= VALUE * case.scale(y, x)).all()

    tolerance = (DELICATE if batch in case.delicate else GRADIENT) * np.abs(slope).max(initial=1e-2)
    assert gradient.shape == slope.shape
    np.testing.assert_allclose(np.asarray(gradient, np.float64), slope, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("name", "batch"), [(name, batch) for name, case in CASES.items() for batch in case.batches])
def test_eager(name, batch):
    assert_agrees(name, "eager", batch)


# Those that differ from others in shape, in dtype, or in the way through the formula. To compile takes torch 10 s a
# function where the others take less than one, so it compiles one batch, of the first case of a function.
COMPILED = {"random", "batch of 0", "truth of bool", "both empty", "shape [B]"}
FIRST = {case.function.func: name for name, case in reversed(CASES.items())}.values()


@pytest.mark.parametrize("mode", MODES[1:])
@pytest.mark.parametrize("name", FIRST if BACKEND == "torch" else CASES)
def test_compiled(name, mode):
    batches = {"random"} if BACKEND == "torch" else COMPILED & CASES[name].batches.keys()
    for batch in batches & {"random", "batch of 0"} if "unknown" in mode else batches:
        assert_agrees(name, mode, batch)


PAIRWISE = [name for name, case in CASES.items() if case.batches.keys() >= {"labels [B, 2]"}]


@pytest.mark.parametrize("mode", [mode for mode in (MODES[0], MODES[-1]) if mode != "inductor"])
@pytest.mark.parametrize("name", PAIRWISE)
def test_shares_of_replicas_make_up_the_whole(name, mode):
    """Of two tiles each, of a block of columns each. `tests/distributed` has real replicas."""
    for batch in CASES[name].batches if mode == "eager" else ["random", "labels [B, 2]"]:
        assert_agrees(name, mode, batch, share=Split(), tile=2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@EACH_CASE
def test_half_precision_inputs_are_computed_in_float32(case, dtype):
    y, x = case.batches["random"]
    half = ops.convert_to_tensor(x, dtype=dtype)
    exact = ops.convert_to_numpy(ops.cast(half, "float32"))
    value = case.function(y, half)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    error = np.abs(ops.convert_to_numpy(value) - case.oracle(y, exact))
    assert (error <= VALUE * case.scale(y, exact)).all()
    # The loss, too, whatever precision it is asked for: the inputs are not rounded once more on their way.
    error = case.loss(dtype=dtype)(y, exact) - case.loss()(y, exact)
    assert float(error) == 0


@EACH_CASE
def test_float64_inputs_are_computed_in_float64_where_the_backend_has_it(case):
    y, x = case.batches["random"]
    wide = x.astype(np.float64) if BACKEND == "jax" else ops.convert_to_tensor(x, dtype="float64")
    value = ops.convert_to_numpy(case.function(y, wide))
    assert value.dtype == (np.float32 if BACKEND == "jax" else np.float64)
    # 1e-14: fifty times the rounding of float64, for a sum of some hundred terms.
    tolerance = VALUE if BACKEND == "jax" else 1e-14
    assert (np.abs(value - case.oracle(y, x)) <= tolerance * case.scale(y, x)).all()


@EACH_BATCH
def test_loss_and_weights(case, batch):
    y, x = case.batches[batch]
    ones = np.ones(len(x), int)
    tolerance = VALUE * max(1e-30, np.sum(case.scale(y, x)))
    assert abs(float(case.loss()(y, x)) - case.total(case.oracle, y, x, ones)) <= tolerance
    for weights in (np.arange(len(x)) % 3, 0 * ones):
        expected = case.total(case.oracle, y, x, weights)
        for shape in [(-1,), (-1, 1)][: x.ndim]:
            value = case.loss()(y, x, weights.astype(np.float32).reshape(shape))
            assert value.shape == ()
            assert abs(float(value) - expected) <= 2 * tolerance  # weights up to 2


@EACH_CASE
def test_mask_is_a_weight_of_zero(case):
    class Mask(keras.layers.Layer):
        def call(self, inputs):
            return inputs

        def compute_mask(self, inputs, previous_mask):
            return ops.convert_to_tensor(kept == 1)

    y, x = case.batches["random"]
    kept = (np.arange(len(x)) % 3 != 1).astype(int)
    weights = np.arange(len(x)) + 1
    masked = Mask()(x)
    tolerance = 10 * VALUE * np.sum(case.scale(y, x))  # weights up to 9
    assert abs(float(case.loss()(y, masked)) - case.total(case.oracle, y, x, kept)) <= tolerance
    assert abs(float(case.loss()(y, masked, weights)) - case.total(case.oracle, y, x, kept * weights)) <= tolerance


@EACH_CASE
def test_config_round_trip_keeps_everything(case):
    y, x = case.batches["random"]
    loss = case.loss(name="mine", dtype="bfloat16")
    again = type(loss).from_config(loss.get_config())
    assert again.get_config() == loss.get_config()
    assert (again.name, again.dtype) == ("mine", "bfloat16")
    deserialized = keras.losses.deserialize(keras.losses.serialize(loss))
    assert deserialized.get_config() == loss.get_config()
    assert float(deserialized(y, x)) == float(again(y, x)) == float(loss(y, x))


@EACH_CASE
def test_save_and_load_without_custom_objects(case, tmp_path):
    y, x = case.batches["random"]
    model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Activation("linear")])
    model.compile(loss=case.loss())
    before = model.evaluate(x, y, batch_size=len(x), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.loss) is type(model.loss)
    assert loaded.loss is not model.loss
    assert loaded.loss.get_config() == model.loss.get_config()
    assert loaded.evaluate(x, y, batch_size=len(x), verbose=0) == before


@EACH_CASE
def test_one_step_of_fit_is_the_step_of_the_oracle(case):
    y, x = case.batches["random"]
    weights = np.arange(len(x)) + 1
    start = np.eye(x.shape[-1], dtype=np.float32) * 0.8
    dense = keras.layers.Dense(x.shape[-1], use_bias=False)
    model = keras.Sequential([keras.Input(x.shape[1:]), dense])
    dense.set_weights([start])
    rate = 1e-2
    model.compile(loss=case.loss(), optimizer=keras.optimizers.SGD(rate))
    history = model.fit(x, y, sample_weight=weights.astype(np.float32), batch_size=len(x), verbose=0)

    prediction = (x @ start).astype(np.float64)
    expected = case.total(case.oracle, y, prediction.astype(np.float32), weights)
    tolerance = VALUE * np.sum(case.scale(y, x)) * weights.max()
    assert abs(history.history["loss"][0] - expected) <= tolerance

    oracle, point = case.tangent(case.oracle, prediction.astype(np.float32))
    slope = gradient_of(lambda y, x: case.total(oracle, y, x, weights), y, point)
    step = rate * np.einsum("ni,nj->ij", x.reshape(-1, x.shape[-1]), slope.reshape(-1, x.shape[-1]))
    (moved,) = dense.get_weights()
    # A weight near 1 is stored to 6e-8; the step itself to GRADIENT.
    np.testing.assert_allclose(moved, start - step, rtol=0, atol=GRADIENT * np.abs(step).max() + 2e-7)
