"""Changes of training pictures that leave their class as it is, another one for each picture of each batch.

What a picture of a batch undergoes is a function of the seed, the epoch, the batch and its row in the joint batch: a
resumed run sees what an uninterrupted one sees, a rank of a pipeline what the others see, and R ranks that share out a
batch what one process sees.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Int, Shaped
from torch import Tensor

from costate.data.batches import generator

Pictures = Shaped[Tensor, "batch channels height width"]
Numbers = Int[Tensor, "batch 3"]
Change = Callable[[Pictures, Numbers], Pictures]
Kind = Literal["none", "flip", "crop", "flip_crop", "trivial", "randaugment"]

BOUND = 2**31
"""Random numbers are below it: three for each picture."""
STREAM = 1
"""Tells these numbers from those of the order of rows."""


@dataclass(frozen=True)
class Augmentation:
    """A change of pictures by random numbers, and the share of each joint batch that this process has."""

    change: Change
    seed: int
    replica: int = 0
    replicas: int = 1

    def __call__(self, x: Pictures, epoch: int, batch: int) -> Pictures:
        rows = len(x) * self.replicas
        joint = torch.randint(BOUND, (rows, 3), generator=generator(self.seed, epoch, batch, STREAM))
        return self.change(x, joint[self.replica :: self.replicas])


def change(kind: Kind) -> Change | None:
    """By its name in settings; None for none.

    `flip` mirrors every other picture, `crop` moves it by up to an eighth of its height, black at the border (He et
    al., 2016, section 4.2). Both work on whole batches, each picture with numbers of its own; torchvision's transforms
    would draw once for a batch, and take it picture by picture. Those of the others are torchvision's
    (TrivialAugment: Müller & Hutter, 2021; RandAugment: Cubuk et al., 2020).
    """
    both: Change = lambda x, numbers: flip(crop(x, numbers), numbers)  # noqa: E731
    trivial, random = partial(one_by_one, "TrivialAugmentWide"), partial(one_by_one, "RandAugment")
    kinds = {"none": None, "flip": flip, "crop": crop, "flip_crop": both, "trivial": trivial, "randaugment": random}
    return kinds[kind]


def flip(x: Pictures, numbers: Numbers) -> Pictures:
    """Mirrors those whose first number is odd."""
    odd = (numbers[:, 0] % 2 == 1).view(-1, 1, 1, 1)
    return torch.where(odd, x.flip(-1), x)


def crop(x: Pictures, numbers: Numbers) -> Pictures:
    """Moves each by as many pixels as its other numbers say."""
    height, width = x.shape[2:]
    most = height // 8
    windows = F.pad(x, [most] * 4).unfold(2, height, 1).unfold(3, width, 1)
    down, right = (numbers[:, 1:] % (2 * most + 1)).unbind(1)
    return windows[torch.arange(len(x)), :, down, right]


def one_by_one(name: str, x: Pictures, numbers: Numbers) -> Pictures:
    """A transform of torchvision for each picture, under a seed of its own."""
    from torchvision.transforms import v2

    transform = getattr(v2, name)()
    with torch.random.fork_rng(devices=[]):
        changed = []
        for picture, seed in zip(x, numbers[:, 0].tolist(), strict=True):
            torch.manual_seed(seed)
            changed.append(transform(picture))
    return torch.stack(changed)
