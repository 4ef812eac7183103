"""Every loss of the table against its oracle: value, gradient, compiled, half precision, weights, config and `fit`.

The default tier has every case and batch in the quickest mode of the backend, and one case of every function or class
for what does not depend on its parameters. The full tier has one of every function in every mode and of every kind of
data for the rest, each other case in one more mode.
"""

import functools
import inspect

import keras
import numpy as np
import pytest
from cases import CASES, gradient_of
from frameworks import BACKEND, COMPILED, FAST, MODES, QUICK, evaluate, graph_breaks, in_shares, quick
from keras import ops


def first(of):
    """The first case of each `of(case)`, in their order."""
    names = set({of(case): name for name, case in reversed(CASES.items())}.values())
    return [name for name in CASES if name in names]


def in_full(names, default):
    """Names, of which some are in the default tier."""
    return [pytest.param(name, marks=() if name in default else pytest.mark.full) for name in names]


def kind(case):
    """What a loss does to its data, whatever its formula: other options are numbers in it."""
    options = case.loss.keywords
    return case.loss.func, options.get("mode"), options.get("batch", False), "tile" in options


FUNCTIONS = first(lambda case: (case.function.func, "tile" in case.function.keywords))
CLASSES = [*first(lambda case: case.loss.func), "pairwise_user_loss tile=4"]
KINDS = first(kind)
EACH_CLASS = pytest.mark.parametrize("name", in_full(KINDS, CLASSES))
# One of each room, and of each way through the pairs.
SHORT = [name for name in CLASSES if "labels [B, 2]" in CASES[name].batches or name == "dice"]
# Those that differ from others in shape, in dtype, or in the way through the formula.
SOME = ("random", "batch of 0")
MORE = (*SOME, "truth of bool", "both empty", "shape [B]")

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


def assert_agrees(name, mode, batch, function=None):
    """Value and gradient agree with the oracle: of the function of a case, or of one that should be the same."""
    case = CASES[name]
    y, x = case.batches[batch]
    rows, upstream, slope = expected(name, batch)
    value, gradient = evaluate(mode, function or case.function, y, x, upstream)

    assert value.shape == rows.shape
    assert value.dtype == np.float32
    assert (np.abs(value - rows) <= VALUE * case.scale(y, x)).all()

    tolerance = (DELICATE if batch in case.delicate else GRADIENT) * np.abs(slope).max(initial=1e-2)
    assert gradient.shape == slope.shape
    np.testing.assert_allclose(np.asarray(gradient, np.float64), slope, rtol=0, atol=tolerance)


def alike(case, batch):
    """Whether a batch is of the shape and dtype of the first, for which the function is compiled anyway."""
    (y, x), (other, points) = case.batches["random"], case.batches[batch]
    return (other.shape, points.shape, other.dtype) == (y.shape, x.shape, y.dtype)


def each_batch():
    """Every batch of every case that is of the shape and dtype of the first.

    Of other shapes, an empty batch of each function, and whatever no case before had; in the full tier all batches of
    one case of each kind.
    """
    seen = set()
    for name, case in CASES.items():
        for batch in case.batches:
            wanted = alike(case, batch) or batch not in seen or (batch in SOME and name in FUNCTIONS)
            seen.add(batch)
            if wanted or name in KINDS:
                yield pytest.param(name, batch, marks=() if wanted else pytest.mark.full)


@pytest.mark.parametrize(("name", "batch"), list(each_batch()))
def test_every_batch(name, batch):
    assert_agrees(name, QUICK, batch)


# torch takes seconds for each, and so does JAX where it compiles every operation; the full tier has more.
FIRST = SOME if COMPILED != QUICK and BACKEND != "torch" else SOME[:1]
# torch takes 20 s to trace a loop over tiles: it does that of one loss, and that without tiles of each.
TRACED = [name for name in FUNCTIONS if BACKEND != "torch" or "tile=4" not in name or name == "supcon tile=4"]


@pytest.mark.parametrize("mode", [mode for mode in ("eager", COMPILED) if mode != QUICK])
@pytest.mark.parametrize("name", in_full(FUNCTIONS, TRACED))
def test_eager_and_compiled(name, mode):
    # torch compiles overlap losses whole, as `fullgraph=True` asks.
    whole = BACKEND == "torch" and "labels [B, 2]" not in CASES[name].batches
    if whole:
        graph_breaks()
    for batch in FIRST:
        if batch in CASES[name].batches:
            assert_agrees(name, mode, batch)
    assert not whole or not graph_breaks()


def each_mode():
    """Each function in every other mode; on TensorFlow, which has four, each other case in one of them, in turn."""
    others = [mode for mode in MODES if mode not in (QUICK, "aot_eager")]
    for number, name in enumerate(CASES):
        if name in TRACED:
            yield from ((name, mode) for mode in others)
        elif BACKEND == "tensorflow":
            yield name, others[number % len(others)]


@pytest.mark.full
@pytest.mark.parametrize(("name", "mode"), list(each_mode()))
def test_every_mode(name, mode):
    # To generate code takes torch 10 s for each shape, and an empty batch is eager's.
    some = SOME if name in FUNCTIONS and mode != "inductor" else SOME[:1]
    if name in FUNCTIONS and mode in ("eager", COMPILED):  # what the default tier leaves
        some = [batch for batch in (MORE if mode == "graph" else SOME) if batch not in FIRST]
    for batch in some:
        if batch in CASES[name].batches:
            assert_agrees(name, mode, batch)


SHARED = {
    name: in_shares(case.loss.func, **{k: v for k, v in case.loss.keywords.items() if k != "reduction"}, tile=2)
    for name, case in CASES.items()
    if "labels [B, 2]" in case.batches and "tile" not in case.loss.keywords
}


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("pairwise_user_loss", QUICK),
        *(
            pytest.param("pairwise_user_loss", m, marks=pytest.mark.full)
            for m in dict.fromkeys((FAST[0], FAST[-1]))
            if m != QUICK
        ),
        *(pytest.param(name, QUICK, marks=pytest.mark.full) for name in SHARED if name != "pairwise_user_loss"),
    ],
)
def test_shares_of_replicas_make_up_the_whole(name, mode):
    """Of two tiles each, of a block of columns each. `tests/distributed` has real replicas."""
    for batch in ("random", "labels [B, 2]"):
        assert_agrees(name, mode, batch, SHARED[name])


@pytest.mark.full
def test_shares_of_every_batch():
    for batch in CASES["pairwise_user_loss"].batches:
        assert_agrees("pairwise_user_loss", QUICK, batch, SHARED["pairwise_user_loss"])


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, "float16") for name in CLASSES),
        *(pytest.param(name, "bfloat16", marks=pytest.mark.full) for name in KINDS),
    ],
)
def test_half_precision_inputs_are_computed_in_float32(name, dtype):
    case = CASES[name]
    y, x = case.batches["random"]
    half = ops.convert_to_tensor(x, dtype=dtype)
    exact = ops.convert_to_numpy(ops.cast(half, "float32"))
    value = quick(case.function)(y, half)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    error = np.abs(ops.convert_to_numpy(value) - case.oracle(y, exact))
    assert (error <= VALUE * case.scale(y, exact)).all()
    # The loss, too, whatever precision it is asked for: the inputs are not rounded once more on their way.
    error = float(quick(case.loss(dtype=dtype))(y, exact)) - case.total(case.oracle, y, exact, np.ones(len(x), int))
    assert abs(error) <= VALUE * np.sum(case.scale(y, exact))


# JAX has none, and the results of float32.
@pytest.mark.parametrize("name", in_full(CLASSES, SHORT) if BACKEND == "jax" else in_full(KINDS, CLASSES))
def test_float64_inputs_are_computed_in_float64_where_the_backend_has_it(name):
    case = CASES[name]
    y, x = case.batches["random"]
    wide = x.astype(np.float64) if BACKEND == "jax" else ops.convert_to_tensor(x, dtype="float64")
    value = ops.convert_to_numpy(quick(case.function)(y, wide))
    assert value.dtype == (np.float32 if BACKEND == "jax" else np.float64)
    # 1e-14: fifty times the rounding of float64, for a sum of some hundred terms.
    tolerance = VALUE if BACKEND == "jax" else 1e-14
    assert (np.abs(value - case.oracle(y, x)) <= tolerance * case.scale(y, x)).all()
    # So are losses that are asked for it, whatever reduces their values. (JAX warns of a float64 that it has not.)
    reductions = [{"reduction": name} for name in ("sum", "mean", "sum_over_batch_size", "mean_with_sample_weight")]
    for given in reductions * (BACKEND != "jax" and "reduction" in case.loss.keywords):
        result = ops.convert_to_numpy(case.loss(dtype="float64", **given)(y, x.astype(np.float64)))
        assert result.dtype == np.float64
        count = 1 if given["reduction"] == "sum" or not value.ndim else len(x)
        total = case.total(case.oracle, y, x, np.ones(len(x), int))
        assert abs(result - total / count) <= tolerance * np.sum(case.scale(y, x))


@functools.cache
def summed(name):
    """The loss of a case, compiled once for batches of one shape."""
    return quick(CASES[name].loss())


def each_weighted():
    """As above: in the default tier a batch of each kind, and an empty one of each class."""
    for name, case in CASES.items():
        for batch in case.batches:
            default = (batch == "random" and name in KINDS) or (batch in SOME and name in CLASSES)
            if default or alike(case, batch) or name in CLASSES:
                yield pytest.param(name, batch, marks=() if default else pytest.mark.full)


# The numbers of one feature are what `ContrastiveLoss` warns of in compiled code.
@pytest.mark.filterwarnings("ignore:`labels` are classes of rows")
@pytest.mark.parametrize(("name", "batch"), list(each_weighted()))
def test_loss_and_weights(name, batch):
    case = CASES[name]
    y, x = case.batches[batch]
    ones = np.ones(len(x), int)
    tolerance = VALUE * max(1e-30, np.sum(case.scale(y, x)))
    loss = summed(name)
    assert abs(float(loss(y, x)) - case.total(case.oracle, y, x, ones)) <= tolerance
    for weights in (np.arange(len(x)) % 3, 0 * ones):
        # One a row, with an axis of 1 where the predictions have it too; `fit` has them without, below.
        value = loss(y, x, weights.astype(np.float32).reshape((-1, 1)[: x.ndim]))
        assert value.shape == ()
        expected = case.total(case.oracle, y, x, weights)
        assert abs(float(value) - expected) <= 2 * tolerance  # weights up to 2


@EACH_CLASS
def test_mask_is_a_weight_of_zero(name):
    case = CASES[name]

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


@pytest.mark.parametrize("name", in_full(CASES, CLASSES))
def test_config_round_trip_keeps_everything(name):
    case = CASES[name]
    loss = case.loss(name="mine", dtype="bfloat16")
    again = type(loss).from_config(loss.get_config())
    assert again.get_config() == loss.get_config()
    assert (again.name, again.dtype) == ("mine", "bfloat16")
    deserialized = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(deserialized) is type(loss)
    assert deserialized.get_config() == loss.get_config()
    # What is in the config is all that there is: every parameter and option is an attribute.
    for argument, value in loss.get_config().items():
        assert getattr(loss, argument) == value or argument == "losses"
    assert set(inspect.signature(type(loss)).parameters) - {"options"} <= loss.get_config().keys() | {"reduction"}


@EACH_CLASS
def test_save_and_load_without_custom_objects(name, tmp_path):
    case = CASES[name]
    y, x = case.batches["random"]
    model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Activation("linear")])
    model.compile(loss=case.loss())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.loss) is type(model.loss)
    assert loaded.loss is not model.loss
    assert loaded.loss.get_config() == model.loss.get_config()
    expected = case.total(case.oracle, y, x, np.ones(len(x), int))
    assert abs(loaded.evaluate(x, y, batch_size=len(x), verbose=0) - expected) <= VALUE * np.sum(case.scale(y, x))


def assert_moved(case, y, x, weights, value, dense, start, rate):
    """A step of a model that is one layer has the loss of the oracle, and moves the layer by its gradient."""
    prediction = (x @ start).astype(np.float64)
    expected = case.total(case.oracle, y, prediction.astype(np.float32), weights)
    tolerance = VALUE * np.sum(case.scale(y, x)) * weights.max()
    assert abs(value - expected) <= tolerance

    oracle, point = case.tangent(case.oracle, prediction.astype(np.float32))
    slope = gradient_of(lambda y, x: case.total(oracle, y, x, weights), y, point)
    step = rate * np.einsum("ni,nj->ij", x.reshape(-1, x.shape[-1]), slope.reshape(-1, x.shape[-1]))
    (moved,) = dense.get_weights()
    # A weight near 1 is stored to 6e-8; the step itself to GRADIENT.
    np.testing.assert_allclose(moved, start - step, rtol=0, atol=GRADIENT * np.abs(step).max() + 2e-7)


@EACH_CLASS
def test_one_step_of_fit_is_the_step_of_the_oracle(name):
    case = CASES[name]
    y, x = case.batches["random"]
    weights = np.arange(len(x)) + 1
    start = np.eye(x.shape[-1], dtype=np.float32) * 0.8
    dense = keras.layers.Dense(x.shape[-1], use_bias=False)
    model = keras.Sequential([keras.Input(x.shape[1:]), dense])
    dense.set_weights([start])
    rate = 1e-2
    model.compile(loss=case.loss(), optimizer=keras.optimizers.SGD(rate))
    history = model.fit(x, y, sample_weight=weights.astype(np.float32), batch_size=len(x), verbose=0)
    assert_moved(case, y, x, weights, history.history["loss"][0], dense, start, rate)


@pytest.mark.parametrize("name", in_full(CLASSES, SHORT))
def test_inside_a_layer_of_a_model_that_knows_no_batch_size(name):
    """Trained one step, on a loss that a layer adds."""
    case = CASES[name]
    y, x = case.batches["random"]
    y = y.astype(np.int32) if y.dtype.kind == "i" else y  # the integers that Keras has on every backend

    class Adds(keras.layers.Layer):
        def call(self, inputs):
            truth, prediction = inputs
            self.add_loss(loss(truth, prediction))
            return prediction

    loss, dense = case.loss(), keras.layers.Dense(x.shape[-1], use_bias=False)
    inputs = [keras.Input(y.shape[1:], dtype=y.dtype.name), keras.Input(x.shape[1:])]
    model = keras.Model(inputs, Adds()([inputs[0], dense(inputs[1])]))
    start, rate = np.eye(x.shape[-1], dtype=np.float32) * 0.8, 1e-2
    dense.set_weights([start])
    model.compile(keras.optimizers.SGD(rate))
    history = model.fit([y, x], batch_size=len(x), verbose=0)
    assert_moved(case, y, x, np.ones(len(x), int), history.history["loss"][0], dense, start, rate)
