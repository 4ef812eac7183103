"""What the errors of losses mean, for someone who wrote the loss for one framework or for Keras 2, or chose no inputs.

The texts of the errors are those of Keras 3.15, TensorFlow 2.21, JAX 0.10 and torch 2.13.
"""

import re
from collections.abc import Callable

import numpy as np

from multiloss.check import tree
from multiloss.check.families import FAMILIES, guess
from multiloss.check.inputs import Case

# Functions of Keras 2's backend that `keras.ops` has under another name. The others keep theirs, or have none.
_RENAMED = {
    "flatten": "ops.reshape(x, (-1,))",
    "batch_flatten": "ops.reshape(x, (ops.shape(x)[0], -1))",
    "pow": "ops.power",
    "gather": "ops.take",
    "permute_dimensions": "ops.transpose",
    "batch_dot": "ops.einsum",
    "l2_normalize": "ops.normalize",
    "int_shape": "x.shape",
    "constant": "ops.convert_to_tensor",
    "variable": "ops.convert_to_tensor",
    "map_fn": "ops.vectorized_map",
    "is_nan": "ops.isnan",
    "reverse": "ops.flip",
}
_KEPT = (
    " sum mean square sqrt exp log abs max min prod clip maximum minimum round sign stack reshape transpose "
    "expand_dims squeeze concatenate softmax sigmoid relu tanh dot cast shape ones_like zeros_like equal not_equal "
    "greater greater_equal less less_equal any all argmax argmin std var repeat tile switch binary_crossentropy "
    "categorical_crossentropy sparse_categorical_crossentropy ndim stop_gradient logsumexp cumsum sin cos elu softplus "
    "one_hot zeros ones eye arange in_top_k cumprod "
)
# Methods of one framework's tensors.
_METHODS = {
    **{"pow": "ops.power", "clamp": "ops.clip", "view": "ops.reshape", "astype": "ops.cast", "to": "ops.cast"},
    **{"float": "ops.cast", "unsqueeze": "ops.expand_dims", "permute": "ops.transpose", "size": "ops.shape"},
    **{"detach": "ops.stop_gradient"},
}
_TENSOR = r"\S*(?:ArrayImpl|Tracer|EagerTensor|SymbolicTensor|Tensor)"


def _instead(name: str, renamed: dict[str, str]) -> str:
    """Return what Keras 3 has for a function's name, ready for use."""
    known = renamed.get(name, f"ops.{name}" if f" {name} " in _KEPT else "ops")
    return known if known.startswith("x.") else f"keras.{known}"


def _backend(found: re.Match[str], trace: str) -> str:
    return f"no attribute '{found[1]}': this is Keras 2's `K`; use `{_instead(found[1], _RENAMED)}`"


def _method(found: re.Match[str], trace: str) -> str:
    return f"tensors have `.{found[1]}` on some backends only: use `{_instead(found[1], _METHODS)}`"


def _foreign(found: re.Match[str], trace: str) -> str:
    if not trace:
        return f"uses TensorFlow or NumPy operations{_ELSEWHERE}"
    if re.search(r"[/\\]tensorflow[/\\]", trace):
        return "uses TensorFlow operations (`tf.*`, `tf.keras.*`): it runs on TensorFlow only; use `keras.ops`"
    return f"uses NumPy operations (`np.*`){_ELSEWHERE}"


_ELSEWHERE = ", which have no gradients on this backend: use `keras.ops`"
_OTHERS = r"(?:jax|tensorflow|Symbolic|\w*Tracer|numpy)"
# (pattern of an error's text, what to say); the first that is found counts.
_HINTS: tuple[tuple[str, str | Callable[[re.Match[str], str], str]], ...] = (
    (r"module 'keras\.(?:_tf_keras\.keras\.)?backend' has no attribute '(\w+)'", _backend),
    (r"cannot import name '(\w+)' from 'keras\.backend'", _backend),
    (
        r"module 'keras\S*losses' has no attribute 'Reduction'|argument `reduction`.*reduction=auto",
        'Keras 3 has no `Reduction`, nor "auto": leave it out, or use "sum_over_batch_size", "sum", "mean" or "none"',
    ),
    (
        r"module 'keras\._tf_keras\.keras\.losses' has no attribute '(\w+)'",
        lambda found, trace: f"`tf.keras` is Keras 3 here, and has no such name: use `keras.losses.{found[1]}`",
    ),
    (r"No module named 'keras\.|cannot import name '\w+' from 'keras", "this is of Keras 2: Keras 3 has it no more"),
    (r"__array__\(\) was called on traced array|Can't call numpy\(\) on Tensor that requires grad", _foreign),
    (r"Cannot convert a symbolic tf\.Tensor .* to a numpy array", "uses NumPy operations (`np.*`): use `keras.ops`"),
    (
        rf"argument '\w+' \(position \d+\) must be Tensor, not {_OTHERS}",
        "uses torch operations: it runs on torch only; use `keras.ops`",
    ),
    (
        r"problematic value is of type <class '(?:torch|tensorflow)",
        "uses JAX operations: it runs on JAX only; use `keras.ops`",
    ),
    (rf"(?:{_TENSOR}' object|{_TENSOR}(?: object)?) has no attribute '?(?!items\b|keys\b|values\b)(\w+)", _method),
    (
        r"got an unexpected keyword argument '(?:dim|keepdim|axis)'",
        "`dim` and `keepdim` are torch's, `axis` is not: use functions of `keras.ops`, with `axis` and `keepdims`",
    ),
    (
        r"TracerBoolConversionError|Attempted boolean conversion|symbolic `tf\.Tensor` as a Python `bool`",
        "the value of a tensor decides a Python `if`, `while` or `assert`: use `keras.ops.where` or `keras.ops.cond`",
    ),
    (
        r"was expected to be a \w+ tensor but is a \w+ tensor",
        "labels and predictions have different dtypes: `y_true = keras.ops.cast(y_true, y_pred.dtype)`",
    ),
    (
        r"takes \d+ positional arguments? but 2 were given|missing \d+ required positional argument",
        "a loss takes (y_true, y_pred). If this makes one, call it, as in `path.py:dice_loss(smooth=1.0)`",
    ),
)
_NEEDS_LABELS = r"indices must be|must be of integer|integer type|take_along|same shape up until the last"
_STRUCTURED = r"string index|data type 'str'|got ['\"]\w+['\"]$|'(?:items|keys|values)'|[Kk]eyError"
_TUPLE = r"too many values to unpack|cannot unpack"
_OF_IMAGES = (
    r"not enough values to unpack|[Tt]oo many indices|out of (?:bounds|range)|[Ii]nvalid reduction"
    r"|ndim|rank|number of dimensions"
)
_UNEQUAL = r"[Ii]ncompatible shapes|must match|broadcast|reshape|invalid for input|squeeze"
# (pattern of an error's text, inputs that may fit); the first that is found counts.
_FITTING: tuple[tuple[str, tuple[str, ...]], ...] = (
    (_STRUCTURED, ("y.labels: int[B, 8] in 0..4, y.mask: bool[B, 8], x: float[B, 8]",)),
    (_TUPLE, ("y.0: onehot[B, 3], y.1: float[B, 1], x.0: prob[B, 3], x.1: float[B, 1]",)),
    (_NEEDS_LABELS, ("integer-labels", "y: int[B, 8, 8] in 0..2, x: prob[B, 8, 8, 3]", "labels-embeddings")),
    (_OF_IMAGES, ("masks", "y: onehot[B, 8, 8, 3], x: prob[B, 8, 8, 3]", "y: int[B, 8] in 0..2, x: prob[B, 8, 3]")),
    (_UNEQUAL, ("one-hot", "integer-labels", "labels-embeddings")),
    ("", ("one-hot", "masks", "y: int[B] in 0..2, x: prob[B, 3]")),
)


def hint(message: str, trace: str = "") -> str:
    """Return what an error means, "" if it is not known.

    Args:
        message: the error's text, with or without its type.
        trace: the traceback, which tells TensorFlow's operations from NumPy's.
    """
    for pattern, says in _HINTS:
        if found := re.search(pattern, message, re.DOTALL):
            return says if isinstance(says, str) else says(found, trace)
    return ""


def uncalled(target: str) -> str:
    """Return what to say where a target returns a function instead of numbers."""
    return f"{target} returned a function; call it: `{target.partition(':')[2]}(...)`"


def misfit(target: str, case: Case, message: str, given: str | None, trace: str = "", brief: str = "") -> str:
    """Return what to say where a loss raises on every backend: what it was given, and what may be given instead.

    Args:
        target: the loss, as text.
        case: the batch on which it raises.
        message: the error's text.
        given: the inputs that the user chose, None where they are guessed from the name.
        trace: the traceback.
        brief: the error's text as it is shown; "" for all of it.
    """
    lines = [f"{target} raises on every backend: {brief or message}"]
    if known := hint(message, trace):
        return "\n".join([*lines, f"Hint: {known}"])
    lines.append(f"It was given the batch {case.name!r}:")
    lines += [f"    {line}" for line in (*_ranges(case.y, "y_true"), *_ranges(case.x, "y_pred"))]
    inputs = guess(target) if given is None else given
    guessed = "guessed from its name" if given is None else "as asked for"
    fitting = [next(lines for pattern, lines in _FITTING if re.search(pattern, message))]
    other = [one for part in (*fitting, _FITTING[-1][1]) for one in part if one != inputs]
    quoted = [one if one in FAMILIES else f'"{one}"' for one in dict.fromkeys(other)]
    return "\n".join(
        [
            *lines,
            f"The inputs are {inputs}, {guessed}. If the loss takes others, name them, for example:",
            *[f"    --inputs {one}" for one in quoted[:3]],
            "    --inputs path.py:function    a function of a seed that returns {name: (y_true, y_pred)}",
        ]
    )


def _ranges(part: tree.Tree, root: str) -> list[str]:
    """Return a line for each array: name, dtype, shape, and the range of its values."""
    lines = []
    for name, leaf in zip(tree.names(part, root), tree.leaves(part), strict=True):
        values = f", from {leaf.min():.3g} to {leaf.max():.3g}" if leaf.size and leaf.dtype != np.bool_ else ""
        lines.append(f"{name}: {leaf.dtype} {list(leaf.shape)}{values}")
    return lines
