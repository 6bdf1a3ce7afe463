"""torch.compile of the stages: the same training pass with what lies between two products in one operation."""

import os
import shutil
from collections.abc import Sequence

import torch

from costate.architectures.recurrent import recurrence
from costate.core.block import Block

# With its patterns torch 2.13 makes V + Y K of V + c Y K, which is `torch.add(V, Y @ K, alpha=c)`, without a word.
OPTIONS = {"pattern_matcher": False}
GRAPHS = 8
"""Of a stage: with gradients and without, of whole batches and of rests, of more layers."""


def compile_blocks(blocks: Sequence[Block]) -> None:
    """In place, when each is first called: modules, the names of their weights and their copies stay what they are.

    Blocks that differ in nothing but their weights share what is compiled.

    Raises:
        ValueError: torch finds no compiler, or a network goes through its layers step by step in time.
    """
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None and not torch.cuda.is_available():
        raise ValueError(
            f"compile=true needs a C++ compiler, and {compiler} is not here: install one, or leave it out."
        )
    if any(recurrence(block) is not None for block in blocks):
        raise ValueError("compile=true compiles stages in depth, and this network is cut in time: leave it out.")
    # All of them count as one function, of which torch compiles eight variants and runs the rest as it is.
    torch._dynamo.config.recompile_limit = GRAPHS * len(blocks)
    for block in blocks:
        block.compile(options=OPTIONS)
