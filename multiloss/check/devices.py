"""The device that a worker computes on, and how precisely: asked for on its command line. Standard library only.

What must be set before a framework is imported is set here; `backends.settle` does the rest.
"""

import os
from typing import NamedTuple

from multiloss.check.targets import TargetError

DEVICES = ("cpu", "gpu", "tpu")
# Products in float32 or in TF32, which rounds what is multiplied to 11 bits, and the policies of Keras.
PRODUCTS = ("float32", "tf32")
PRECISIONS = (*PRODUCTS, "mixed_bfloat16", "mixed_float16")


class Settings(NamedTuple):
    """What is asked for: a device of `DEVICES` and a precision of `PRECISIONS`; "" for the framework's default."""

    device: str = ""
    precision: str = ""

    @property
    def words(self) -> list[str]:
        """The options of the command line."""
        named = zip(("--device", "--precision"), self, strict=True)
        return [word for option, value in named if value for word in (option, value)]


def settings(device: str | None, precision: str | None, precisions: tuple[str, ...] = PRECISIONS) -> Settings:
    """Return valid settings.

    Raises:
        TargetError: if one of them is not known.
    """
    for name, given, known in (("device", device, DEVICES), ("precision", precision, precisions)):
        if given is not None and given not in known:
            raise TargetError(f"`{name}` must be one of {', '.join(known)}. Received: {given!r}")
    return Settings(device or "", precision or "")


def prepare(asked: Settings) -> None:
    """Set what frameworks read when they are imported."""
    if asked.device == "cpu":
        os.environ |= {"JAX_PLATFORMS": "cpu", "KERAS_TORCH_DEVICE": "cpu", "CUDA_VISIBLE_DEVICES": "-1"}
    elif asked.device:
        for name in ("JAX_PLATFORMS", "KERAS_TORCH_DEVICE"):  # each takes an accelerator if nothing else is said
            os.environ.pop(name, None)
