"""A program of its own, where types are not checked: how far compiled networks are from plain ones.

python tests/compiled.py BACKEND PRODUCT ...: of each the largest error of output and gradients, relative, in float64.
"""

import sys

import torch
from torch import Tensor

from composing import network
from costate.training.module import compile_blocks

SHAPE = (1, 8, 8)


def pass_over(blocks: list[torch.nn.Module], x: Tensor) -> list[Tensor]:
    """Output and gradients of all blocks, the first one's of its input too."""
    h = x = x.clone().requires_grad_()
    for block in blocks:
        h = block(h)
    (h**2).sum().backward()
    return [h.detach(), x.grad, *(p.grad for block in blocks for p in block.parameters() if p.grad is not None)]


def error(product: str, backend: str) -> float:
    """Of the second pass, when running statistics have moved once."""
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        blocks = network(SHAPE, 10, *product.split()).double().cut(2)
        if compiled and backend == "inductor":
            compile_blocks(blocks)
        elif compiled:
            for block in blocks:
                block.compile(backend=backend)
        pass_over(blocks, torch.randn(5, *SHAPE).double())
        found.append(pass_over(blocks, torch.randn(5, *SHAPE).double()))
    return max(float((a - b).norm() / a.norm().clamp_min(1e-9)) for a, b in zip(*found, strict=True))


if __name__ == "__main__":
    for words in sys.argv[2:]:
        torch.compiler.reset()
        print(error(words, sys.argv[1]), words, flush=True)
