"""What is measured of a network: how it propagates a disturbance of its state, how well a predicted gradient answers.

    Y_j   state behind layer j, both fields of it             (batch, *shape), as a vector d numbers
    J_j   Jacobian of layer j, ∂Y_j / ∂Y_{j−1}                 (batch, d, d′)
    P_j   Jacobian of the propagation, J_j J_{j−1} ... J_1     (batch, d, d₀)
    σ     a singular value: by how much a disturbance in its direction grows
    g, ĝ  a gradient and what was predicted of it             (batch, *shape)

Blocks are in evaluation mode: samples do not see each other, and no statistics move. Sums over gradients run in float64
over the whole batch, so the order of samples does not matter.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from costate.core.block import Block
from costate.core.types import Input, State

Map = Callable[[Tensor], Tensor]


@torch.no_grad()
def states(blocks: Sequence[Block], x: Input) -> list[Tensor]:
    """Y_0, ..., Y_n of the network that the blocks make up."""
    found = [blocks[0].open(x)]
    for block in blocks:
        found += block.propagate(found[-1])
    return found


def jacobian(layer: Map, Y: State) -> Float[Tensor, "batch after before"]:
    """J of a map at Y, by one forward-mode pass over d copies of each row."""
    batch, d = len(Y), Y[0].numel()
    basis = torch.eye(d, dtype=Y.dtype, device=Y.device).repeat(batch, 1).view(batch * d, *Y.shape[1:])
    columns = _push(layer, Y.repeat_interleave(d, dim=0), basis)
    return columns.view(batch, d, -1).mT


def layer_jacobians(blocks: Sequence[Block], x: Input) -> list[Float[Tensor, "batch after before"]]:
    """J_1, ..., J_n."""
    Y = states(blocks, x)
    layers = [block.slice(j, j + 1).eval() for block in blocks for j in range(block.layers)]
    return [jacobian(partial(_last, layer), Y[j]) for j, layer in enumerate(layers)]


def products(jacobians: Sequence[Tensor]) -> list[Float[Tensor, "batch after before"]]:
    """P_1, ..., P_n."""
    return list(accumulate(jacobians, lambda P, J: J @ P))


def amplification(through: Map, Y: State, rounds: int = 3) -> Float[Tensor, ""]:
    """Mean over rows of the largest σ of ∂through/∂Y, from below: v ← Jᵀ J v, σ ≈ ‖J v‖ / ‖v‖ (power iteration).

    Args:
        rounds: of the iteration; each costs a forward and a backward pass.
    """
    # A generator of its own: to measure draws nothing from the training's.
    random = torch.Generator().manual_seed(0)
    v = torch.randn(Y.shape, generator=random, dtype=Y.dtype).to(Y.device)
    for _ in range(rounds):
        v = v / _norm(v)
        w = _push(through, Y, v)
        found = _norm(w).flatten().mean()
        # Not torch.func.vjp, which does not go with hooks on saved tensors: who measures memory has some.
        with torch.enable_grad():
            end = Y.detach().requires_grad_()
            (v,) = torch.autograd.grad(through(end), end, w)
    return found.detach()


def _last(block: Block, h: Tensor) -> Tensor:
    return block.propagate(h)[-1]


@torch.no_grad()
def _push(through: Map, Y: Tensor, v: Tensor) -> Tensor:
    """J v, and no graph: under hooks on saved tensors nothing would free one of both directions."""
    # Other kernels of attention know no derivative forwards.
    with sdpa_kernel(SDPBackend.MATH):
        pair: Any = torch.func.jvp(through, (Y,), (v,))
    return pair[1]


def _norm(v: Tensor) -> Tensor:
    """‖v‖ of each row; no row is 0."""
    norm = v.flatten(1).norm(dim=1).clamp_min(torch.finfo(v.dtype).tiny)
    return norm.view(-1, *(1,) * (v.ndim - 1))


Number = Float[Tensor, ""]


def cosine(prediction: State, g: State) -> Number:
    """⟨ĝ, g⟩ / (‖ĝ‖ ‖g‖) over all entries of the batch; 0 where one of them vanishes, for it points nowhere."""
    prediction, g = prediction.double(), g.double()
    return _ratio((prediction * g).sum(), prediction.norm() * g.norm())


def relative_error(prediction: State, g: State) -> Number:
    """‖ĝ − g‖ / ‖g‖; 0 where both vanish, ∞ where g alone does."""
    prediction, g = prediction.double(), g.double()
    error, norm = (prediction - g).norm(), g.norm()
    return torch.where(error == 0, error, error / norm)


def explained_variance(prediction: State, g: State) -> Number:
    """1 − Var(g − ĝ) / Var(g), variances over samples, summed over features; 0 where g does not vary."""
    prediction, g = prediction.double(), g.double()
    variance = _variance(g)
    return _ratio(variance - _variance(g - prediction), variance)


def norm(gradients: list[Tensor]) -> Number:
    """√ Σ ‖g‖² over tensors of any shapes; 0 without any."""
    return torch.stack([g.double().norm() for g in gradients]).norm() if gradients else torch.zeros(())


def _variance(Y: Tensor) -> Tensor:
    return (Y - Y.mean(dim=0)).square().sum()


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b == 0, torch.zeros_like(a), a / b)
