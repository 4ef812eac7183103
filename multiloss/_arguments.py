"""Checks of arguments before any computation: dtype, rank, shape, and the range of parameters.

The checks do not read the values of arrays, so they also work under `jax.jit`, `tf.function` and `torch.compile`. Each
function returns its argument in the form to use, or raises an error that names the argument, what was expected and what
was received, but never shows data.
"""

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import backend, ops

from multiloss import _frameworks
from multiloss._frameworks import Tensor as Tensor
from multiloss.ids import split_integers


def number(name: str, value: Any, expected: str, holds: Callable[[float], bool]) -> float:
    """Return a Python number for which `holds` is true."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be {expected}. Received: {value!r} of type {type(value).__name__}")
    try:
        result = float(value)
    except OverflowError:  # an integer of hundreds of digits
        result = math.inf
    if not holds(result):
        raise ValueError(f"`{name}` must be {expected}. Received: {value!r}")
    return result


def non_negative(name: str, value: Any, expected: str = "a finite number >= 0") -> float:
    """Return a Python number that is finite and not negative, in float32 as well."""
    return number(name, value, expected, lambda v: 0 <= v < 2.0**128)


def non_negative_or_none(name: str, value: Any) -> float | None:
    """Return the same for an argument that may also be None."""
    return None if value is None else non_negative(name, value, "None or a finite number >= 0")


def positive(name: str, value: Any) -> float:
    """Return a Python number that is finite and greater than 0, in float32 as well."""
    return number(name, value, "a finite number >= 1.2e-38", lambda v: 2.0**-126 <= v < 2.0**128)


def parameter(name: str, value: Any, check: Callable[[str, Any], float | None]) -> Any:
    """Return a parameter of a loss: a checked Python number, or a float scalar unchanged.

    The value of a scalar, a tensor or a `keras.Variable`, is checked too, except while it is traced.
    """
    if not is_parameter(value) or isinstance(value, (numbers.Real, np.ndarray)):
        _refuse_others(name, value)
        return check(name, as_number(value))
    tensor = ops.convert_to_tensor(value)
    if "float" not in backend.standardize_dtype(tensor.dtype):
        raise TypeError(f"`{name}` must have a float dtype. Received: {backend.standardize_dtype(tensor.dtype)}")
    if _frameworks.has_value(tensor):
        check(name, as_number(value))
    return value


def is_parameter(value: Any) -> bool:
    """Return whether a value is a number or a scalar, which is data instead of a static constant."""
    if isinstance(value, (bool, np.bool_)):
        return False
    if isinstance(value, numbers.Real):
        return True
    is_array = isinstance(value, (np.ndarray, keras.Variable)) or ops.is_tensor(value)
    return is_array and len(value.shape) == 0


def as_number(value: Any) -> Any:
    """Return a scalar as a Python number, and any other value unchanged."""
    if isinstance(value, (int, float)) or not is_parameter(value):
        return value
    return ops.convert_to_numpy(value).item()


def threshold(value: float | None) -> float | None:
    """Return the checked `thresh`."""
    return None if value is None else number("thresh", value, "None or a number in (0, 1)", lambda v: 0 < v < 1)


def boolean(name: str, value: Any) -> bool:
    """Return a checked boolean."""
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` must be True or False. Received: {value!r} of type {type(value).__name__}")
    return value


def replicas(name: str, value: Any) -> bool | str:
    """Return a checked boolean, or the name of an axis."""
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, bool):
        raise TypeError(
            f"`{name}` must be True, False or the name of an axis. Received: {value!r} of type {type(value).__name__}"
        )
    return value


def one_of(name: str, value: Any, allowed: Sequence[str | None]) -> Any:
    """Return one of the allowed strings, which may include None."""
    if not isinstance(value, (str, type(None))) or value not in allowed:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, allowed))}. Received: {value!r}")
    return value


def at_least_float32(dtype: str) -> str:
    """Return the dtype of the computation: float64 for float64, float32 for everything else."""
    return "float64" if dtype == "float64" else "float32"


def numeric(name: str, value: Any) -> Tensor:
    """Return a tensor of real numbers or booleans, without a change of dtype."""
    _refuse_others(name, value)
    try:
        result = ops.convert_to_tensor(value)
        dtype = backend.standardize_dtype(result.dtype)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be an array of numbers. Received: {type(value).__name__}") from error
    if not ("float" in dtype or "int" in dtype or dtype == "bool"):
        raise TypeError(f"`{name}` must be an array of numbers. Received dtype: {dtype}")
    return result


def classes(name: str, value: Any) -> Tensor:
    """Return a tensor of numbers, with integers as int32 or narrower: values outside are clipped, not wrapped."""
    _refuse_others(name, value)
    value = ops.convert_to_tensor(value) if isinstance(value, keras.Variable) else value
    if isinstance(value, np.ndarray) or not ops.is_tensor(value):
        try:
            array = np.asarray(value)
        except ValueError:  # rows of different lengths
            return numeric(name, value)
        if _is_wide(array):
            least = max(-(2**31), np.iinfo(array.dtype).min)
            value = np.clip(array, least, 2**31 - 1).astype(np.int32)
    result = numeric(name, value)
    if _is_wide(result):
        result = ops.cast(ops.clip(ops.cast(result, "int64"), -(2**31), 2**31 - 1), "int32")
    return result


def _is_wide(value: Any) -> bool:
    return str(getattr(value.dtype, "name", value.dtype)).rpartition(".")[2] in ("int64", "uint32", "uint64")


def is_whole(value: Any) -> bool:
    """Return whether numbers are integers or booleans, by their dtype, of any framework."""
    try:
        dtype = str(value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype)
    except ValueError:  # rows of different lengths
        return False
    return "int" in dtype or "bool" in dtype


def floats(name: str, value: Any) -> Tensor:
    """Return a tensor in float32 or better."""
    result = numeric(name, value)
    dtype = backend.standardize_dtype(result.dtype)
    return result if dtype == at_least_float32(dtype) else ops.cast(result, at_least_float32(dtype))


def embeddings(name: str, value: Any) -> Tensor:
    """Return embeddings `[B, D]`, D >= 1, in float32 or better."""
    result = floats(name, value)
    if rank(name, result) != 2 or not result.shape[1]:
        raise ValueError(f"`{name}` must have shape [B, D], D >= 1 and known. Received shape: {tuple(result.shape)}")
    return result


def _refuse_others(name: str, value: Any) -> None:
    """Raise for what has no values, and for tensors of another framework, which Keras would convert, or not read."""
    if isinstance(value, np.ndarray) or ops.is_tensor(value):
        return
    if isinstance(value, keras.KerasTensor):
        raise TypeError(
            f"`{name}` must be an array of numbers. Received: a KerasTensor, a symbol of a functional model without "
            "values. Call the loss inside a layer of the model: `self.add_loss(loss(labels, x))`"
        )
    framework = _frameworks.foreign(value)
    if framework is not None:
        raise TypeError(
            f"`{name}`: Keras runs on {backend.backend()} (KERAS_BACKEND); this is a {framework} "
            f"{'array' if framework == 'jax' else 'tensor'}. Set KERAS_BACKEND={framework} before keras is imported."
        )


def labels(name: str, value: Any, rows_name: str, rows: Tensor, split: bool = False) -> Tensor:
    """Return integer labels as `[B, K]`, not rounded or wrapped; two rows have the same label if all K are equal.

    With `split`, return their low and high 32 bits as int32 `[B, 2 K]`, so that labels of different dtypes compare.
    """
    _refuse_others(name, value)
    value = ops.convert_to_tensor(value) if isinstance(value, keras.Variable) else value
    host = isinstance(value, np.ndarray) or not ops.is_tensor(value)
    value = _as_array(name, value) if host else value
    dtype = str(value.dtype) if host else backend.standardize_dtype(value.dtype)
    if "int" not in dtype and dtype != "bool":
        hint = "Labels are classes of rows, not flags of pairs. " if "float" in dtype else ""
        raise TypeError(
            f"`{name}` must be integers: floats merge ids above 2**24, and strings need `multiloss.encode_ids`. (Keras "
            "casts the labels of a plain function to float: pass an object, such as `PairwiseUserLoss()`.) "
            f"{hint}Received dtype: {dtype}"
        )
    axes = rank(name, value)
    if axes not in (1, 2) or (axes == 2 and value.shape[1] == 0):
        raise ValueError(f"`{name}` must have shape [B] or [B, K], K >= 1. Received shape: {tuple(value.shape)}")
    zeros = _same_size(name, value, rows_name, rows, axis=0)
    columns = value if axes == 2 else value[:, None]
    if dtype == "bool":
        columns = ops.cast(columns, "int32")
    elif host:
        columns = split_integers(columns)  # before a backend can narrow them
    columns = ops.convert_to_tensor(columns)
    if split and (dtype == "bool" or not host):
        columns = _split(columns)
    return sum((ops.cast(zero, columns.dtype) for zero in zeros), start=columns)


def _split(columns: Tensor) -> Tensor:
    """Split integers `[B, K]` as `split_integers` does, on their device."""
    low, dtype = ops.cast(columns, "int32"), backend.standardize_dtype(columns.dtype)
    if dtype in ("int64", "uint64"):
        high = ops.cast(ops.floor_divide(ops.cast(columns, "int64"), 2**32), "int32")
    elif dtype.startswith("uint"):
        high = ops.zeros_like(low)
    else:
        high = -ops.cast(low < 0, "int32")
    return ops.reshape(ops.stack([low, high], axis=-1), (-1, 2 * columns.shape[1]))


def ignore_label(value: Any) -> tuple[int, ...] | None:
    """Return None, or a label as a tuple of 64-bit integers, one for each of its columns."""
    if value is None:
        return None
    value = value.tolist() if isinstance(value, np.ndarray) else value
    parts = value if isinstance(value, (tuple, list)) else (value,)
    expected = "None, an integer or a tuple of them"
    for part in parts:
        if isinstance(part, (bool, np.bool_)) or not isinstance(part, numbers.Integral):
            raise TypeError(f"`ignore_label` must be {expected}. Received: {value!r}")
    if not parts or not all(-(2**63) <= part < 2**64 for part in parts):
        raise ValueError(f"`ignore_label` must be {expected}, in [-2**63, 2**64). Received: {value!r}")
    return tuple(int(part) for part in parts)


def labels_other_than(ignored: tuple[int, ...], columns: Tensor) -> Tensor:
    """Return a mask `[B]` of the labels, split into columns `[B, 2 K]`, that differ from the ignored one."""
    if 2 * len(ignored) != columns.shape[1]:
        raise ValueError(
            f"`ignore_label` must have one integer for each of the {columns.shape[1] // 2} columns of the labels. "
            f"Received: {len(ignored)} (`encode_ids(ids, wide=True)` always gives two.)"
        )
    split = split_integers(np.array([[label % 2**64 for label in ignored]], dtype=np.uint64))
    return ops.any(ops.not_equal(columns, ops.convert_to_tensor(split)), axis=1)


def pair_weights(value: Any, rows: Tensor, columns: Tensor) -> Tensor:
    """Return pair weights `[B, B']` as floats, without a gradient."""
    result = ops.stop_gradient(floats("pair_weights", value))
    shape = tuple(result.shape) if rank("pair_weights", result) else ()
    full = (rows.shape[0], columns.shape[0])
    if len(shape) != 2 or any(None not in pair and pair[0] != pair[1] for pair in zip(shape, full, strict=True)):
        raise ValueError(f"`pair_weights` must have shape [B, B'], {full}. Received shape: {shape}")
    zeros = _same_size("pair_weights", result, "embeddings", rows, axis=0)
    zeros += _same_size("pair_weights", ops.transpose(result), "the columns", columns, axis=0)
    return sum((ops.cast(zero, result.dtype) for zero in zeros), start=result)


def weights(name: str, value: Any, rows: Tensor, axes: int, rows_name: str = "y_pred") -> Tensor:
    """Return weights as floats: a scalar, or one weight for each index of `rows` along its first `axes` axes.

    The first axis must be the batch. A further axis may have size 1, or be omitted with all axes after it.
    """
    result = floats(name, value)
    fits = rank(name, result) <= rank(rows_name, rows)
    shape, full = tuple(result.shape), tuple(rows.shape)
    fits = fits and all(
        size in (1, None) or (axis < axes and full[axis] in (size, None)) for axis, size in enumerate(shape)
    )
    if not fits or (shape and None not in (shape[0], full[0]) and shape[0] != full[0]):
        raise ValueError(
            f"`{name}` must be a scalar or fit the leading axes of `{rows_name}`, {full[:axes]}. "
            f"Received shape: {shape}"
        )
    zeros = _same_size(name, result, rows_name, rows, axis=0) if shape else []
    return sum((ops.cast(zero, result.dtype) for zero in zeros), start=result)


def described(value: Any) -> str:
    """Return the shape of a tensor, or the type of another value, for a message."""
    return f"shape: {tuple(value.shape)}" if hasattr(value, "shape") else f"{type(value).__name__}"


def has_shape(value: Any, like: Tensor) -> bool:
    """Return whether a tensor has the shape of another, as far as shapes are static."""
    shape, other = getattr(value, "shape", ()), like.shape
    if shape == other:  # the usual case, and faster
        return True
    fits = all(None in pair or pair[0] == pair[1] for pair in zip(shape, other, strict=False))
    return len(shape) == len(other) and fits


def same_shape(name: str, value: Tensor, other_name: str, other: Tensor) -> list[Tensor]:
    """Raise if the static shapes differ; return a 0 to add to the result for each size known only at run time.

    Computing that 0 raises if the sizes differ.
    """
    if rank(name, value) != rank(other_name, other):
        raise ValueError(
            f"`{name}` and `{other_name}` must have the same shape. "
            f"Received shapes: {tuple(value.shape)} and {tuple(other.shape)}"
        )
    return [zero for axis in range(len(value.shape)) for zero in _same_size(name, value, other_name, other, axis)]


def _same_size(name: str, value: Tensor, other_name: str, other: Tensor, axis: int) -> list[Tensor]:
    if None in (value.shape[axis], other.shape[axis]):
        # In a TensorFlow graph, where a batch of one would broadcast silently. Concatenation raises for other sizes. A
        # reshape would too, but TensorFlow assumes that it is valid and optimises it away.
        columns = [ops.zeros((ops.shape(x)[axis], 1), dtype="int32") for x in (value, other)]
        scope = f"{name}_must_have_the_size_of_{other_name}".replace(" ", "_")
        with keras.name_scope(scope):  # which TensorFlow's error names
            return [ops.sum(ops.concatenate(columns, axis=1))]
    if value.shape[axis] != other.shape[axis]:
        raise ValueError(
            f"`{name}` and `{other_name}` must have the same {'shape' if axis else 'batch size'}. "
            f"Received shapes: {tuple(value.shape)} and {tuple(other.shape)}"
        )
    return []


def _as_array(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"`{name}` must have shape [B] or [B, K]. Received rows of different lengths") from error
    return array if array.size else array.astype(np.int32)  # NumPy makes an empty list float


def rank(name: str, value: Tensor) -> int:
    """Return the number of axes, which must be static."""
    try:
        return len(value.shape)
    except ValueError as error:  # TensorFlow, in a graph
        raise ValueError(
            f"`{name}` must have a known rank. Received a tensor of unknown rank. (Keras on TensorFlow forgets it if "
            "one model is trained with arrays of different ranks, such as [B] and [B, 1]: compile the model again.)"
        ) from error
