"""What is said of a loss that raises. The texts of errors are those that small losses raised under each backend:
Keras 3.15.1, TensorFlow 2.21, JAX 0.10.2, torch 2.13."""

import numpy as np
import pytest

from multiloss.check import families, hints, inputs

NUMPY_ON_JAX = "TracerArrayConversionError: The numpy.ndarray conversion method __array__() was called on traced array"
NUMPY_ON_TORCH = "RuntimeError: Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
TRACE = 'File "/lib/python3.11/site-packages/tensorflow/python/util/traceback_utils.py", line 169, in error_handler'


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (
            "AttributeError: module 'keras.backend' has no attribute 'flatten'",
            "no attribute 'flatten': this is Keras 2's `K`; use `keras.ops.reshape(x, (-1,))`",
        ),
        (
            "AttributeError: in user code:\n\n    return K.sum(y*x)\n\n"
            "    AttributeError: module 'keras.backend' has no attribute 'sum'",
            "no attribute 'sum': this is Keras 2's `K`; use `keras.ops.sum`",
        ),
        (
            "AttributeError: module 'keras.backend' has no attribute 'int_shape'",
            "no attribute 'int_shape': this is Keras 2's `K`; use `x.shape`",
        ),
        (
            "AttributeError: module 'keras.backend' has no attribute 'learning_phase'",
            "no attribute 'learning_phase': this is Keras 2's `K`; use `keras.ops`",
        ),
        ("ImportError: cannot import name 'mean' from 'keras.backend' (/x/__init__.py)", "use `keras.ops.mean`"),
        ("ImportError: cannot import name 'losses_utils' from 'keras.utils' (/x/__init__.py)", "this is of Keras 2"),
        ("ModuleNotFoundError: No module named 'keras.objectives'", "this is of Keras 2"),
        ("AttributeError: module 'keras.losses' has no attribute 'Reduction'", "leave it out"),
        (
            "ValueError: Invalid value for argument `reduction`. Expected one of {'mean', None}. "
            "Received: reduction=auto",
            "leave it out",
        ),
        (
            "AttributeError: module 'keras._tf_keras.keras.losses' has no attribute 'mean_squared_error'",
            "use `keras.losses.mean_squared_error`",
        ),
        ("AttributeError: 'jaxlib._jax.ArrayImpl' object has no attribute 'pow'", "use `keras.ops.power`"),
        ("AttributeError: LinearizeTracer has no attribute pow", "`.pow` on some backends only"),
        (
            "AttributeError: 'tensorflow.python.framework.ops.EagerTensor' object has no attribute 'sum'",
            "keras.ops.sum",
        ),
        ("AttributeError: SymbolicTensor object has no attribute 'size'.", "use `keras.ops.shape`"),
        ("AttributeError: 'Tensor' object has no attribute 'astype'", "use `keras.ops.cast`"),
        ("AttributeError: 'SymbolicTensor' object has no attribute 'numpy'", "use `keras.ops`"),
        (
            "TypeError: exp(): argument 'input' (position 1) must be Tensor, not jaxlib._jax.ArrayImpl",
            "torch operations",
        ),
        ("TypeError: mean(): argument 'input' (position 1) must be Tensor, not LinearizeTracer", "torch operations"),
        ("TypeError: mean(): argument 'input' (position 1) must be Tensor, not SymbolicTensor", "torch operations"),
        (
            "TypeError: exp(): argument 'input' (position 1) must be Tensor, not "
            "tensorflow.python.framework.ops.EagerTensor",
            "uses torch operations: it runs on torch only; use `keras.ops`",
        ),
        (
            "TypeError: Error interpreting argument to <function _mean at 0x7f76> as an abstract array. The "
            "problematic value is of type <class 'torch.Tensor'> and was passed to the function at path a.",
            "uses JAX operations: it runs on JAX only; use `keras.ops`",
        ),
        (NUMPY_ON_JAX, "uses TensorFlow or NumPy operations"),
        (NUMPY_ON_TORCH, "uses TensorFlow or NumPy operations"),
        (
            "NotImplementedError: Cannot convert a symbolic tf.Tensor (sub:0) to a numpy array.",
            "uses NumPy operations (`np.*`): use `keras.ops`",
        ),
        ("TypeError: _sum() got an unexpected keyword argument 'dim'", "`dim` and `keepdim` are torch's"),
        (
            "TracerBoolConversionError: Attempted boolean conversion of traced array with shape bool[].",
            "keras.ops.where",
        ),
        (
            "InvalidArgumentError: cannot compute Mul as input #1(zero-based) was expected to be a int32 tensor but is "
            "a float tensor [Op:Mul] name: ",
            "`y_true = keras.ops.cast(y_true, y_pred.dtype)`",
        ),
        ("TypeError: dice_loss() takes 1 positional argument but 2 were given", "If this makes one, call it"),
        ("TypeError: loss() missing 1 required positional argument: 'c'", "If this makes one, call it"),
        ("ValueError: too many values to unpack (expected 2)", None),
        ("AttributeError: 'jaxlib._jax.ArrayImpl' object has no attribute 'items'", None),
        ("KeyError: 'labels'", None),
    ],
)
def test_errors_are_explained(message, says):
    assert says in hints.hint(message) if says else not hints.hint(message)


@pytest.mark.parametrize("message", [NUMPY_ON_JAX, NUMPY_ON_TORCH])
def test_the_traceback_tells_tensorflow_from_numpy(message):
    assert hints.hint(message, TRACE).startswith("uses TensorFlow operations (`tf.*`, `tf.keras.*`): it runs on Tensor")
    assert hints.hint(message, "File /x/loss.py, line 3").startswith("uses NumPy operations (`np.*`), which have no")


def test_a_factory_without_its_call():
    assert hints.uncalled("a.py:dice_loss") == "a.py:dice_loss returned a function; call it: `dice_loss(...)`"
    assert hints.uncalled("a:make(3)") == "a:make(3) returned a function; call it: `make(3)(...)`"


def misfit(message, given=None):
    return hints.misfit("a.py:my_loss", families.family("regression", 0)[0], message, given).split("\n")


def test_a_misfit_shows_what_was_given_and_what_mends_it():
    lines = misfit("IndexError: too many indices for tensor of dimension 2")
    assert lines[0] == "a.py:my_loss raises on every backend: IndexError: too many indices for tensor of dimension 2"
    assert lines[1:5] == [
        "It was given the batch 'random':",
        "    y_true: float32 [6, 3], from -2.33 to 1.3",
        "    y_pred: float32 [6, 3], from -1.01 to 1.37",
        "The inputs are regression, guessed from its name. If the loss takes others, name them, for example:",
    ]
    assert lines[5] == "    --inputs masks"
    assert lines[6] == '    --inputs "y: onehot[B, 8, 8, 3], x: prob[B, 8, 8, 3]"'
    assert len(lines) == 9
    assert lines[-1].startswith("    --inputs path.py:function")
    lines = misfit("ValueError: other", "one-hot")
    assert lines[4].startswith("The inputs are one-hot, as asked for.")
    assert lines[5:8] == ["    --inputs masks", '    --inputs "y: int[B] in 0..2, x: prob[B, 3]"', lines[-1]]
    lines = misfit("AttributeError: module 'keras.backend' has no attribute 'sum'")
    assert lines[1:] == ["Hint: no attribute 'sum': this is Keras 2's `K`; use `keras.ops.sum`"]


def test_a_misfit_of_structures():
    case = inputs.Case("one", {"a": np.array([True]), "b": np.zeros((1, 0))}, (np.ones((1, 2), np.float32),))
    lines = hints.misfit("a:b", case, "x", "y.a: bool[1], y.b: mask[1], x.0: float[1]").split("\n")
    assert lines[2:5] == [
        '    y_true["a"]: bool [1]',
        '    y_true["b"]: float64 [1, 0]',
        "    y_pred[0]: float32 [1, 2], from 1 to 1",
    ]


@pytest.mark.parametrize(
    ("message", "first"),
    [
        ("TypeError: JAX does not support string indexing; got idx='labels'", '"y.labels: '),
        ("TypeError: Only integers, slices (`:`) and tensors are valid indices, got 'labels'", '"y.labels: '),
        ("TypeError: new(): invalid data type 'str'", '"y.labels: '),
        ("AttributeError: 'Tensor' object has no attribute 'items'", '"y.labels: '),
        ("ValueError: too many values to unpack (expected 2)", '"y.0: onehot'),
        ("ValueError: not enough values to unpack (expected 4, got 2)", "masks"),
        ("ValueError: axis 3 is out of bounds for array of dimension 2", "masks"),
        ("IndexError: Dimension out of range (expected to be in range of [-2, 1], but got 2)", "masks"),
        ("InvalidArgumentError: Invalid reduction dimension (2 for input with 2 dimension(s) [Op:Mean]", "masks"),
        ("ValueError: Inputs must have ndim=3, 4 or 5, corresponding to 1D, 2D and 3D inputs.", "masks"),
        ("TypeError: take_along_axis indices must be of integer type, got float32", "integer-labels"),
        (
            "ValueError: Arguments `target` and `output` must have the same shape up until the last dimension: ",
            "integer-labels",
        ),
        ("InvalidArgumentError: Incompatible shapes: [6,3,3] vs. [6,3] [Op:Mul] name: ", "one-hot"),
        ("RuntimeError: The size of tensor a (6) must match the size of tensor b (3)", "one-hot"),
        ("RuntimeError: shape '[6, 1, 3, 1, 2]' is invalid for input of size 18", "one-hot"),
    ],
)
def test_inputs_are_suggested_by_the_error(message, first):
    assert misfit(message)[5].startswith(f"    --inputs {first}")


def test_what_is_suggested_can_be_used():
    for _, fitting in hints._FITTING:
        for text in fitting:
            assert families.batches(text, 0)
