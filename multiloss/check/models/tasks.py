"""What a worker does with a model: builds it, gives it weights, runs it and trains it. Keras only.

Every task builds the model anew, with the names and the seed of a new process, and says so where it cannot.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from multiloss.check import backends, loop, slopes, targets, tree
from multiloss.check.models import recording
from multiloss.check.models.recording import Recording
from multiloss.check.targets import TargetError

Batch = tuple[Any, Any, Any]  # x, y, sample_weight
Given = dict[str, Any]  # "build", and of a description: "weights", "state" and "unit"
# Relative rounding of the dtypes that are coarser than float32.
_UNITS = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
# The point of float64 is moved by so much, relative to its numbers, that numbers of float32 are no longer such.
_OFF_FLOAT32 = 2.0**-30
# An optimizer's own constants are of float32: 1 - 0.999 is off by 1e-5 of itself, and so is what Adam divides by.
_UPDATE = 1e-5


def built(text: str) -> Any:
    """Return a new compiled model."""
    place, _, named = text.partition(":")
    targets.resolve(f"{place}:__name__")  # imports it
    # Names are counted anew, but a policy that the user's file set when it was imported stays.
    policy = keras.config.dtype_policy()
    keras.utils.clear_session(free_memory=False)
    if not policy.name.startswith("float"):
        keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    model = build = targets.resolve(text)
    if "(" not in named:  # else it is a call, which has just made a model
        if isinstance(build, keras.Model) or not callable(build):
            kind = type(build).__name__
            raise TargetError(f"`build` must be a function that returns a new model. Received: {kind}")
        try:
            inspect.signature(build).bind()
        except TypeError as error:
            raise TargetError(f"`build` must be called without arguments. {text} {error}") from None
        model = build()
    if not isinstance(model, keras.Model):
        raise TargetError(f"`build` must return a keras.Model. {text} returned: {type(model).__name__}")
    if not model.compiled:
        raise TargetError(f"`build` must return a compiled model: call `model.compile(...)` in {text}")
    if getattr(model, "steps_per_execution", 1) != 1:
        model.steps_per_execution = 1  # each step is compared
    return model


def optimizers_of(model: Any) -> list[Any]:
    """Return the optimizer of `compile` and those that the model holds, as for a generator and a discriminator."""
    held = [model.optimizer, *(value for value in vars(model).values() if isinstance(value, keras.Optimizer))]
    return list({id(one): one for one in held if one is not None}.values())


def _inside(optimizer: Any) -> Any:
    """Return the optimizer that gets gradients as they are: the one in an optimizer that scales the loss."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def batches_of(text: str, seed: int, size: int, count: int) -> list[Batch]:
    """Return at most so many batches."""
    data = _data(text, seed)
    if isinstance(data, keras.utils.PyDataset):
        parts = [_batch(text, data[i]) for i in range(min(count, len(data)))]
    else:
        whole = _batch(text, data)
        rows = len(tree.leaves(whole[0])[0])
        cuts = range(0, max(1, rows - size + 1), size)  # a last batch of fewer rows would be compiled once more
        parts = [_rows(whole, slice(i, i + size)) for i in cuts[:count]]
    if not parts:
        raise TargetError(f"`data` must have at least one batch. {text} has none")
    return parts


def _rows(batch: Batch, rows: slice) -> Batch:
    x, y, weight = (None if part is None else tree.map(lambda leaf: leaf[rows], part) for part in batch)
    return x, y, weight


def _data(text: str, seed: int) -> Any:
    if text.endswith(".npz"):
        return _of_file(text)
    data = targets.resolve(text)
    if callable(data) and not isinstance(data, keras.utils.PyDataset):
        try:
            inspect.signature(data).bind(seed)
        except TypeError as error:
            raise TargetError(f"`data` must be a function of a seed. {text}: {error}") from None
        try:
            data = data(seed)
        except Exception as error:  # user code may raise anything
            raise TargetError(f"`data` {text} raises with seed {seed}: {type(error).__name__}: {error}") from error
    return data


def _of_file(path: str) -> tuple[Any, ...]:
    if not Path(path).is_file():
        raise TargetError(f"`data` must be a file that exists. Received: {path}")
    try:
        with open(path, "rb") as opened, np.load(opened) as file:  # NumPy does not close a broken file
            arrays = dict(file)
    except Exception as error:  # from zip, zlib or pickle, or for an .npy file
        raise TargetError(f"`data` {path} is not a readable .npz file: {type(error).__name__}: {error}") from error
    parts: dict[str, dict[str, Any]] = {"x": {}, "y": {}, "sample_weight": {}}
    for key, array in arrays.items():
        part, _, rest = key.partition(".")
        if part not in parts:
            raise TargetError(f"`data` must consist of `x`, `y` and `sample_weight`. {path} has `{key}`")
        parts[part][rest] = array
    if not parts["x"]:
        raise TargetError(f"`data` must have `x`. {path} has none")
    try:
        return tuple(map(tree.nested, parts.values()))
    except ValueError as error:
        raise TargetError(f"`data` {path} has both an array and parts of it: {error}") from None


def _batch(text: str, given: Any) -> Batch:
    """Return x, y and weights as trees of arrays with equally many rows."""
    if isinstance(given, list) and 2 <= len(given) <= 3:
        raise TargetError(f"`data` must give a tuple (x, y) or (x, y, sample_weight), no list. {text} gave a list")
    parts = given if isinstance(given, tuple) else (given,)
    if not 1 <= len(parts) <= 3 or parts[0] is None:
        raise TargetError(f"`data` must give (x, y) or (x, y, sample_weight). {text} gave {len(parts)} parts")
    arrays = [None if part is None else tree.map(np.asarray, part) for part in parts]
    leaves = [leaf for part in arrays if part is not None for leaf in tree.leaves(part)]
    if other := [leaf.dtype for leaf in leaves if leaf.dtype.kind not in "biuf"]:
        raise TargetError(f"`data` must consist of numbers. {text} has {other[0]}")
    rows = {len(leaf) if leaf.ndim else -1 for leaf in leaves}
    if len(rows) > 1 or rows <= {-1, 0}:
        counts = ", ".join("none" if count < 1 else str(count) for count in sorted(rows))
        raise TargetError(f"`data` must have rows, and as many in each array. {text} has {counts}")
    x, y, weight = (*arrays, None, None)[:3]
    return x, y, weight


def describe_model(build: str, data: str, seed: int, size: int, steps: int) -> dict[str, Any]:
    """Return a model's weights, the state of its optimizers, and the batches."""
    batches = batches_of(data, seed, size, steps)
    model = built(build)
    with recording.without_randomness() as drawing:
        try:
            model(tree.map(ops.convert_to_tensor, batches[0][0]), training=True)
        except Exception as error:  # user code, and each framework's own errors
            raise TargetError(
                f"the model of {build} cannot be called with {tree.described(batches[0][0], 'x')}: "
                f"{type(error).__name__}: {error}"
            ) from error
    optimizers = optimizers_of(model)
    weights = recording.named(model.weights)
    trainable = {id(weight) for weight in model.trainable_weights}
    _build(optimizers, model)
    return {
        "versions": backends.version(),
        "weights": {name: ops.convert_to_numpy(weight) for name, weight in weights.items()},
        "trainable": [name for name, weight in weights.items() if id(weight) in trainable],
        "state": [[ops.convert_to_numpy(variable) for variable in one.variables] for one in optimizers],
        "optimizer": " and ".join(_named(_inside(one)) for one in optimizers) or "none",
        "losses": _losses(model),
        "random": dict(drawing),
        "unit": _unit(model),
        "batches": batches,
    }


def _build(optimizers: Sequence[Any], model: Any) -> None:
    """Make the variables of an optimizer; one of a part of the model makes its own at the first step."""
    if len(optimizers) == 1 and not optimizers[0].built:
        optimizers[0].build(model.trainable_variables)


def _unit(model: Any) -> float:
    """Return the relative rounding of the least precise layer, or of products."""
    layers = [model, *model._flatten_layers()] if hasattr(model, "_flatten_layers") else [model, *model.layers]
    return max(backends.rounding(), *(_UNITS.get(str(layer.compute_dtype), 0.0) for layer in layers))


def _named(thing: Any) -> str:
    """Return the name of a loss or an optimizer, and its class if that is another."""
    if isinstance(thing, str):
        return f"`{thing}`"
    name = getattr(thing, "name", None) or getattr(thing, "__name__", type(thing).__name__)
    return f"`{name}`" if inspect.isfunction(thing) else f"`{name}` ({type(thing).__name__})"


def _losses(model: Any) -> dict[str, str]:
    """Return the losses of `compile` by their names in logs."""
    loss = getattr(model, "loss", None)
    if isinstance(loss, list | tuple):
        loss = dict(zip(getattr(model, "output_names", None) or map(str, range(len(loss))), loss, strict=False))
    if isinstance(loss, dict):
        return {f"{output}_loss": _named(part) for output, part in loss.items() if part is not None}
    return {} if loss is None else {"loss": _named(loss)}


class _Model:
    """A model with given weights and state, in float32 or float64, that can be set back."""

    def __init__(self, given: Given, batch: Batch, wide: bool):
        self.given, self.wide, self.by = given, wide, 0
        self.model = built(given["build"])
        self.model(self.tensors(batch[0]), training=False)
        self.weights = recording.named(self.model.weights)
        self.names = {id(weight): name for name, weight in self.weights.items()}
        self.optimizers = optimizers_of(self.model)
        _build(self.optimizers, self.model)
        # An optimizer that makes its variables at the first step cannot be set back.
        self.whole = all(one.built for one in self.optimizers)
        # Those of now: recorders add some.
        self.variables = [list(one.variables) for one in self.optimizers]
        self.set()

    def set(self, by: int = 0) -> None:
        """Set weights and state back; with `by`, each weight moved by a unit in the last place."""
        self.by = by
        for place, (name, weight) in enumerate(self.weights.items()):
            weight.assign(self.moved(self.given["weights"][name], place))
        for variables, state in zip(self.variables, self.given["state"], strict=True):
            for variable, value in zip(variables, state, strict=True):
                variable.assign(value)
        for layer in getattr(self.model, "_flatten_layers", list)():
            if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
                layer.reset_state()
        self.model.reset_metrics()

    def now(self) -> dict[str, np.ndarray]:
        """Return the weights."""
        return {name: ops.convert_to_numpy(weight) for name, weight in self.weights.items()}

    def move_update(self, before: dict[str, np.ndarray]) -> None:
        """Make the update of a step larger by what an optimizer rounds it by: all of it, as its constants do."""
        for weight in self.model.trainable_weights:
            after = ops.convert_to_numpy(weight)
            weight.assign((after + _UPDATE * (after - before[self.names[id(weight)]])).astype(after.dtype))

    def moved(self, array: np.ndarray, place: int) -> np.ndarray:
        """Return floats in the dtype to compute in, moved by a unit in the last place if asked for."""
        if array.dtype.kind != "f":
            return array
        signs = np.random.default_rng([place, abs(self.by)]).choice([-1.0, 1.0], array.shape)
        if self.wide:
            return array.astype(np.float64) * (1 + _OFF_FLOAT32 * signs)
        array, signs = array.astype(np.float32), signs * np.sign(self.by)
        if self.by and self.given["unit"] > slopes.ROUNDING:
            array = (array * (1 + self.given["unit"] * signs)).astype(np.float32)
        elif self.by:
            array = np.nextafter(array, np.float32(np.inf) * signs.astype(np.float32))
        return array

    def tensors(self, part: Any) -> Any:
        """Return arrays of a batch as tensors."""
        return tree.map(ops.convert_to_tensor, self.arrays(part))

    def arrays(self, part: Any) -> Any:
        """Return arrays of x, moved as weights are, but for whole numbers: another id or padding is another input."""
        places = iter(range(1000, 10**6))

        def one(leaf: np.ndarray) -> np.ndarray:
            moved = self.moved(leaf, next(places))
            return np.where(leaf == np.round(leaf), leaf, moved).astype(moved.dtype)

        return tree.map(one, part)


@contextlib.contextmanager
def _precision(wide: bool) -> Iterator[None]:
    with backends.in_float64() if wide else contextlib.nullcontext():
        yield


def forward(given: Given, batch: Batch, wide: bool) -> dict[str, Any]:
    """Return the calls of layers, in inference and in training without random layers.

    In float32, "again" has them a second time, and "moved" twice for numbers moved by a unit in the last place.
    """
    with _precision(wide):
        model = _Model(given, batch, wide)

        def run(training: bool, by: int = 0) -> list[Any]:
            model.set(by)
            with recording.without_randomness(), Recording(model.names).on() as recorded:
                model.model(model.tensors(batch[0]), training=training)
            return recorded.calls

        result = {}
        for training in (False, True):
            runs = {"calls": run(training)}
            if not wide:
                runs["again"] = run(training)
                moved = [run(training, by) for by in (1, -1)]
                runs["moved"] = [[call.outputs for call in calls] for calls in moved]
            result["training" if training else "inference"] = runs
        return result


class _Recorder:
    """Keeps the gradients that an optimizer gets, in variables of its own, so that compiled steps return them."""

    def __init__(self, optimizer: Any, model: _Model):
        self.slots = {
            id(variable): optimizer.add_variable_from_reference(variable, name="recorded")
            for variable in model.model.trainable_variables
        }
        self.names, self.got = model.names, set[int]()
        every, apply = model.model.trainable_variables, optimizer.apply

        def recording_apply(grads: Any, trainable_variables: Any = None) -> Any:
            grads = list(grads)
            trainable_variables = None if trainable_variables is None else list(trainable_variables)
            variables = every if trainable_variables is None else trainable_variables
            for variable, gradient in zip(variables, grads, strict=True):
                if gradient is not None and id(variable) in self.slots:
                    self.got.add(id(variable))
                    slot = self.slots[id(variable)]
                    slot.assign(ops.cast(ops.convert_to_tensor(gradient), slot.dtype))
            return apply(grads, trainable_variables)

        optimizer.apply = recording_apply

    def gradients(self) -> dict[str, np.ndarray]:
        """Return the last gradients, of the weights that it trains."""
        return {self.names[place]: ops.convert_to_numpy(self.slots[place]) for place in self.slots if place in self.got}


def train(given: Given, batches: Sequence[Batch], steps: int, wide: bool) -> dict[str, Any]:
    """Return logs of each step, and gradients and weights of the first, as often as `forward` does."""
    with _precision(wide), recording.without_randomness():
        model: _Model | None = None
        recorders: list[_Recorder] = []

        def run(count: int, by: int = 0) -> dict[str, Any]:
            nonlocal model, recorders
            if model is None or not model.whole:
                model = _Model(given, batches[0], wide)
                recorders = [_Recorder(_inside(one), model) for one in model.optimizers if one.built]
            model.set(by)
            logs, first = [], None
            for step in range(count):
                x, y, sample_weight = batches[step % len(batches)]
                model.model.reset_metrics()
                before = model.now() if by else {}
                log = model.model.train_on_batch(model.arrays(x), y, sample_weight=sample_weight, return_dict=True)
                if by:
                    model.move_update(before)
                logs.append({name: np.asarray(value, np.float64) for name, value in log.items()})
                if first is None:
                    gradients = {name: one for recorder in recorders for name, one in recorder.gradients().items()}
                    first = {"gradients": gradients, "weights": model.now()}
            return {"logs": logs, **(first or {})}

        result: dict[str, Any] = {"run": run(steps)}
        if not wide:
            result["again"] = run(1)
            result["moved"] = [run(steps, 1), run(1, -1)]
        return result


def replay(given: Given, batch: Batch, inputs: dict[str, Any], training: bool) -> dict[str, Any]:
    """Return what single calls of layers return for given inputs, and their gradients with respect to these.

    It is the same upstream gradient for each call: that of `upstream_of`. A call that fails has its error as text.
    """
    model = _Model(given, batch, wide=False)

    def one(name: str) -> tuple[Any, Any]:
        model.set()  # on JAX, moving statistics have become part of the last call's trace
        arrays = [array for array in inputs[name] if array.dtype.kind == "f"]

        def call(_: Any, x: list[Any]) -> Any:
            try:
                with Recording(model.names, {name: x}).on():
                    model.model(model.tensors(batch[0]), training=training)
            except recording.Returned as returned:
                return ops.concatenate([ops.reshape(part, (-1,)) for part in returned.tensors])
            raise RuntimeError(f"{name} was not called")

        with recording.without_randomness():
            size = len(ops.convert_to_numpy(call(None, [ops.convert_to_tensor(a) for a in arrays])))
            model.set()
            return backends.prepare("eager", call)([], arrays, slopes.upstream_of((size,)))

    return {name: loop.reply_of(one, {"name": name}) for name in inputs}


TASKS: dict[str, Callable[..., Any]] = {
    "describe_model": describe_model,
    "forward_model": forward,
    "train_model": train,
    "replay_layers": replay,
}
