"""Tokens: a transformer as a differential equation, dY/dt = attention(Y) + mlp(Y), its weights a function of time.

    Y        state                               (batch, tokens, width)
    K        queries, keys and values            (n, width, 3 width);  O  output of the heads  (n, width, width)
    A, a     first map of the mlp, with a bias   (n, width, hidden), (n, hidden)
    B, b     the second one                      (n, hidden, width), (n, width)
    N, M     layer norms, or the identity        scale and shift (n, width) each

    attention(Y) = softmax(Q Kᵀ / √d) V O of heads of width d, [Q K V] = N(Y) K;    mlp(Y) = σ(M(Y) A + a) B + b

An integrator that asks for one function has the sum of both, in parallel (Wang & Komatsuzaki, 2021, GPT-J); one that
asks for two has f = mlp and dual = attention. So Euler's steps are a transformer's layers (Vaswani et al., 2017,
1706.03762; Dosovitskiy et al., 2021, 2010.11929), and those of Verlet can be undone:

    Z ← Z − h attention(Y);  Y ← Y + h mlp(Z), without M: Z begins at 0, where a norm is not continuous

Leapfrog's force is the sum, which is the gradient of no potential: steps can be undone, but no energy is kept.
"""

import math
from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from costate.architectures.fields import Activation, Field, Layer
from costate.architectures.forms import Form, constant
from costate.config.settings import Count
from costate.core.types import Shape

States = Float[Tensor, "batch tokens width"]


@final
class TokenField(Field):
    """Attention and mlp of n layers.

    Args:
        heads: of the attention, each of width / heads features.
        hidden: features inside of the mlp.
        pair: whether f is the mlp alone, beside the attention.
    """

    def __init__(self, n: int, width: int, heads: int, hidden: int, pair: bool, activation: str, norm: bool):
        super().__init__()
        self.heads, self.pair, self.activation = heads, pair, Activation(activation)
        sizes = {"K": (width, 3 * width), "O": (width, width), "A": (width, hidden), "B": (hidden, width)}
        for name, (a, b) in sizes.items():
            self.register_parameter(name, nn.Parameter(constant(torch.randn(a, b) / math.sqrt(a), n)))
        for name, size in {"a": hidden, "b": width}.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(n, size)))
        for name in ("N", "M")[: 1 if pair else 2] if norm else ():
            self.register_parameter(f"{name}_scale", nn.Parameter(torch.ones(n, width)))
            self.register_parameter(f"{name}_shift", nn.Parameter(torch.zeros(n, width)))
        self.timed = len(self.stacks())

    def layer(self, j: int, θ: Sequence[Tensor], statistics: None, h: float, kick: float) -> Layer:
        K, O, A, B, a, b, *norms = θ

        def attention(Y: Tensor) -> Tensor:
            Q, k, V = (normed(Y, *norms[:2]) @ K).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
            return F.scaled_dot_product_attention(Q, k, V).transpose(1, 2).flatten(-2) @ O

        def mlp(Y: Tensor) -> Tensor:
            return self.activation(normed(Y, *norms[2:]) @ A + a) @ B + b

        def both(Y: Tensor) -> Tensor:
            return attention(Y) + mlp(Y)

        return Layer(mlp if self.pair else both, attention, both, h, kick)


def normed(Y: States, scale: Tensor | None = None, shift: Tensor | None = None) -> States:
    """Layer norm (Ba et al., 2016, 1607.06450), if there is a scale."""
    return Y if scale is None else F.layer_norm(Y, scale.shape, scale, shift)


@final
class Opening(nn.Module):
    """A linear map of each patch of an image, or of each step of a sequence, and a learnt position added.

    Images are padded by zeros to whole patches.
    """

    def __init__(self, shape: Shape, width: int, patch: int):
        super().__init__()
        sides = [-(-side // patch) for side in shape[1:]] if len(shape) == 3 else shape[:1]
        self.map = nn.Conv2d(shape[0], width, patch, patch) if len(shape) == 3 else nn.Linear(shape[1], width)
        self.position = nn.Parameter(0.02 * torch.randn(math.prod(sides), width))
        self.patch = patch

    def forward(self, x: Float[Tensor, "batch ..."]) -> States:
        if x.ndim == 4:
            x = F.pad(x, (0, -x.shape[3] % self.patch, 0, -x.shape[2] % self.patch))
            return (self.map(x).flatten(2).mT + self.position).contiguous()
        return self.map(x) + self.position


@final
class Mean(nn.Module):
    """The mean over the tokens."""

    def forward(self, Y: States) -> Float[Tensor, "batch width"]:
        return Y.mean(dim=1)


@final
class Tokens(Form):
    """States are vectors of several tokens, (batch, tokens, width): the patches of an image, or a sequence's steps.

    The head reads the mean over the tokens. `arch.norm` is layer norm here.

    Args:
        patch: side of a patch in pixels.
        heads: of the attention, of width / heads features each.
        expansion: features inside of the mlp, in widths.
    """

    def __init__(self, *, patch: Count, heads: Count, expansion: Count):
        self.patch, self.heads, self.expansion = patch, heads, expansion

    def opening(self, shape: Shape, width: int) -> nn.Module:
        if len(shape) not in (2, 3):
            raise ValueError(
                "arch/form=tokens needs images (channels, height, width) or sequences (steps, features); data gives "
                f"{math.prod(shape)} features: use arch/form=dense"
            )
        if width % self.heads:
            raise ValueError(f"arch.width={width} is no multiple of arch.form.heads={self.heads}: change either.")
        return Opening(shape, width, self.patch)

    def field(self, layers: int, width: int, evaluations: int, activation: str, norm: bool) -> Field:
        return TokenField(layers, width, self.heads, self.expansion * width, evaluations == 2, activation, norm)

    def head(self, width: int, outputs: int) -> nn.Module:
        return nn.Sequential(Mean(), nn.Linear(width, outputs))
