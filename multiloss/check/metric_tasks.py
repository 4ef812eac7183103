"""What a worker does with metrics: update one batch by batch in one mode, reset it, evaluate a model with it.

A batch is `(y_true, y_pred, sample_weight)`: NumPy arrays or trees of them, the weight None for none. A metric gets
tensors, as in `evaluate`. All numbers of a result, of a dict by sorted keys, are one flat array.
"""

import ast
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from multiloss.check import backends, slopes, targets, tree
from multiloss.check.tree import Tree

Batch = tuple[Tree, Tree, np.ndarray | None]


def make(target: str, **settings: Any) -> Any:
    """Return a new metric, with settings replaced by those given; a plain function as `compile` wraps it, in a mean."""
    metric = targets.resolve(target)
    if inspect.isclass(metric):
        metric = metric(**settings)
    elif isinstance(metric, keras.metrics.Metric) and (settings or metric is targets.resolve(target)):
        metric = type(metric).from_config({**metric.get_config(), **settings})  # an object of the module has a state
    if not isinstance(metric, keras.metrics.Metric):
        if not callable(metric):
            raise targets.TargetError(f"{target!r} is no metric, nor callable. Received: {type(metric).__name__}")
        return keras.metrics.MeanMetricWrapper(metric, **settings)
    if list(inspect.signature(metric.update_state).parameters)[1:2] == ["sample_weight"]:
        raise targets.TargetError(
            "a metric must take (y_true, y_pred). "
            f"Received: {type(metric).__name__}, which takes (values, sample_weight)"
        )
    return metric


def _tensors(batch: Batch) -> list[Any]:
    """Return what `update_state` gets: floats as floatx, as `evaluate` makes them."""

    def tensor(leaf: np.ndarray) -> Any:
        return ops.convert_to_tensor(leaf, dtype=keras.config.floatx() if leaf.dtype.kind == "f" else None)

    return [tree.map(tensor, part) for part in batch if part is not None]


def _update(metric: Any, batch: Batch) -> None:
    """Update a metric as `fit` does: weights are a keyword."""
    y, x, *weight = _tensors(batch)
    metric.update_state(y, x, **({"sample_weight": weight[0]} if weight else {}))


def numbers(result: Any) -> dict[str, Any]:
    """Return all numbers of a result as "value", in parts of so many "lengths"; "gradient" is None, as of no loss."""
    leaves = tree.leaves(result)
    if not leaves or any(leaf is None for leaf in leaves):
        raise targets.TargetError(f"`result` must return numbers. Received: {result!r}")
    arrays = [np.ravel(np.asarray(ops.convert_to_numpy(leaf), np.float64)) for leaf in leaves]
    return {"value": np.concatenate(arrays), "lengths": [len(part) for part in arrays], "gradient": None}


def _whole(batches: Sequence[Batch]) -> list[Batch] | None:
    """Return batches with weights of the shape of the labels, which some of Keras's metrics need; None if they have."""
    if not all(weight is not None and tree.bare(y) and y.ndim > 1 for y, _, weight in batches):
        return None
    made: list[Batch] = []
    for y, x, weight in batches:
        assert weight is not None
        made.append((y, x, np.broadcast_to(weight.reshape(-1, *[1] * (y.ndim - 1)), y.shape).copy()))
    return made


def _either(task: Callable[[Any], dict[str, Any]], batches: Sequence[Batch]) -> dict[str, Any]:
    """Return the result of a task, and as "whole" whether it needs weights of the shape of the labels."""
    try:
        return task(batches) | {"whole": False}
    except Exception:  # a metric may raise anything
        whole = _whole(batches)
        if not whole:
            raise
        try:
            return task(whole) | {"whole": True}
        except Exception:  # the first error, which is raised below, says more
            pass
        raise


def _result(metric: Any, batches: Sequence[Batch] = ()) -> dict[str, Any]:
    for batch in batches:
        _update(metric, batch)
    return numbers(metric.result())


_quick: dict[tuple[str, str], Any] = {}  # of the last target


def _quick_result(target: str, batches: Sequence[Batch]) -> dict[str, Any]:
    """Return the result of a new metric after some batches: compiled where eager mode is slow, if it can be."""
    key = target, keras.config.floatx()
    try:
        if key not in _quick:
            for other in [other for other in _quick if other[0] != target]:
                del _quick[other]
            _quick[key] = None  # unless it succeeds
            metric = make(target)
            if batches and not metric.variables:
                _update(metric, batches[0])
                metric.reset_state()
            _quick[key] = backends.quick_metric(metric) if batches else _quick.pop(key)
        if quick := _quick.get(key):
            update, result, start = quick
            start()
            for batch in batches:
                y, x, *weight = _tensors(batch)
                update(y, x, **({"sample_weight": weight[0]} if weight else {}))
            return numbers(result())
    except Exception:  # in eager mode it may still run; the row `compiled` tells this error
        _quick[key] = None
    return _result(make(target), batches)


def _result_or_none(metric: Any) -> Any:
    """Return the numbers of the result before any update, or None for a metric that has none then."""
    try:
        return numbers(metric.result())["value"]
    except Exception:  # a clear refusal, as that of `average=None` without a number of classes
        return None


def stream(target: str, batches: list[Batch], mode: str = "quick", cast: str | None = None) -> dict[str, Any]:
    """Return the result of a new metric after some batches, whose predictions are cast, in one mode.

    The mode "quick" is eager, but for backends that are slow then.
    """
    return _either(lambda batches: _streamed(target, batches, mode, cast), batches)


def _streamed(target: str, batches: Sequence[Batch], mode: str, cast: str | None) -> dict[str, Any]:
    if mode == "quick" and cast is None:
        return _quick_result(target, batches)
    metric = make(target)
    mode = "eager" if mode == "quick" else mode
    if mode != "eager" and not metric.variables:  # made by the first update, which `fit` has done before it compiles
        _update(metric, batches[0])
        metric.reset_state()
    update, result = backends.prepare_metric(mode, metric)
    for batch in batches:
        y, x, *weight = _tensors(batch)
        x = x if cast is None else tree.map(lambda leaf: ops.cast(leaf, cast), x)
        update(y, x, **({"sample_weight": weight[0]} if weight else {}))
    return numbers(result())


def exact(target: str, y: Tree, x: Tree, bounds: list[tuple[float, float]], seed: int) -> slopes.Plain:
    """Return the result after one batch in float64, see `slopes.plain`."""
    with backends.in_float64():

        def value(leaves: list[np.ndarray]) -> Any:
            return _quick_result(target, [(y, tree.like(x, leaves), None)])["value"]

        return slopes.plain(value, tree.leaves(x), bounds, seed)


def describe(target: str) -> dict[str, Any]:
    """Return properties of the metric, and the versions of the backend and Keras."""
    metric = make(target)
    given = targets.resolve(target)
    own = isinstance(metric, given) if inspect.isclass(given) else isinstance(given, keras.metrics.Metric)
    try:
        inspect.signature(metric.update_state).bind(None, None, sample_weight=None)
        weighted = True
    except TypeError:
        weighted = False
    config = metric.get_config() if own else {}
    return {
        "metric": True,
        "loss": False,
        "own": own,
        "weighted": weighted,
        "batch_dependent": bool(getattr(metric if own else given, "batch_dependent", False)),
        "modes": ["eager", *backends.METRIC_MODES],
        "versions": backends.version(),
        "rounding": backends.rounding(),
        "from_logits": bool(config.get("from_logits", False)),
        "straight_through": False,
        "takes_dtype": False,
        "reduction": None,
    }


def reset(target: str, first: list[Batch], second: list[Batch]) -> dict[str, Any]:
    """Return what a metric gives after `reset_state`, and a new one; without any update, and after the second batches.

    "before" and "after" are of two new metrics: before and after another one was updated with the first batches.
    """
    new, before = _result_or_none(make(target)), _result(make(target), second)["value"]
    metric = make(target)
    _result(metric, first)
    after = _result(make(target), second)["value"]
    metric.reset_state()
    empty = _result_or_none(metric)
    return {
        "new": new,
        "empty": empty,
        "before": before,
        "after": after,
        "again": _result(metric, second)["value"],
    }


def metric_config(target: str, batches: list[Batch]) -> dict[str, Any]:
    """Recreate the metric from its config, also with a dtype other than the default."""

    def again(metric: Any) -> Any:
        return type(metric).from_config(metric.get_config())

    metric = make(target)
    kept, signature = metric.get_config(), inspect.signature(type(metric).__init__)
    given = _given(target, signature)
    lost = [
        name
        for name, p in list(signature.parameters.items())[1:]
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name not in kept and name != "dtype"
        # Arguments that are None may have become others, as `thresholds` of Keras's AUC.
        if p.default is not None or name in given
    ]
    try:
        other = make(target, dtype="float64")
        dtypes = (other.dtype, again(other).dtype) if other.dtype == "float64" else None
    except Exception:  # it takes no dtype, or `**kwargs` has another purpose
        dtypes = None
    return {
        "lost": lost,
        "before": _result(metric, batches)["value"],
        "after": _result(again(metric), batches)["value"],
        "dtypes": dtypes,
        "dtype kept": "dtype" in kept,
    }


def _given(target: str, signature: inspect.Signature) -> set[str]:
    """Return the names of the arguments in a target's call."""
    call = ast.parse(target.partition(":")[2].strip(), mode="eval").body
    if not isinstance(call, ast.Call):
        return set()
    named = {word.arg: None for word in call.keywords if word.arg}
    try:
        return set(signature.bind_partial(None, *call.args, **named).arguments)
    except TypeError:  # a call of something else, as `from_config`
        return set(named)


def evaluate(target: str, y: np.ndarray, x: np.ndarray, weight: np.ndarray | None, size: int) -> dict[str, Any]:
    """Return results after `evaluate` of a model that predicts x, in batches of one size.

    The metric is given in `metrics` and, if there are weights, in `weighted_metrics`.
    """
    return _either(lambda batches: _evaluated(target, batches[0], size), [(y, x, weight)])


def _evaluated(target: str, batch: Batch, size: int) -> dict[str, Any]:
    y, x, weight = batch
    made = {"metrics": make(target)} | ({} if weight is None else {"weighted_metrics": make(target)})
    model = keras.Sequential([keras.Input(x.shape[1:], dtype=str(x.dtype)), keras.layers.Identity()])

    def nothing(y: Any, x: Any) -> Any:
        """Return losses of 0, of the shape of weights: a model needs some."""
        return ops.zeros(ops.shape(y)[: 1 if weight is None else weight.ndim])

    model.compile(loss=nothing, **{name: [metric] for name, metric in made.items()})
    model.evaluate(x, y, sample_weight=weight, batch_size=size, verbose=0, return_dict=True)
    return {name: numbers(metric.result())["value"] for name, metric in made.items()}


TASKS: dict[str, Callable[..., Any]] = {
    "stream": stream,
    "exact_metric": exact,
    "describe_metric": describe,
    "reset": reset,
    "metric_config": metric_config,
    "evaluate": evaluate,
}
