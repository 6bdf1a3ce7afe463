"""What networks of convolutions ask of their samples."""

import math

from costate.core.types import Shape


def channels_of(arch: str, shape: Shape) -> int:
    """The channels of pictures.

    Raises:
        ValueError: samples are none.
    """
    if len(shape) != 3:
        raise ValueError(
            f"arch={arch} needs images (channels, height, width); data gives {math.prod(shape)} features: use arch=mlp"
        )
    return shape[0]
