"""A method that sends something of its own is one file: its interface, its post and itself, as docs/adding.md says."""

import torch

from composing import method
from costate.execution.serial import Serial
from costate.training.module import stages as make_stages
from own_method import RandomProjections
from trained import SHAPE, TASK, batches, blocks


def gradients(rule):
    stages = [stage.double() for stage in make_stages(blocks("verlet", 3), SHAPE, TASK, rule)]
    x, y = batches(1)[0]
    Serial(stages, rule, lag=0).step(0, x.double(), y)
    return stages, [p.grad for stage in stages for p in stage.block.parameters()]


def test_a_sketch_of_all_directions_is_backpropagation_and_a_smaller_one_is_not():
    stages, exact = gradients(method("method=backprop"))
    features = torch.Size(stages[1].inlet).numel()
    for size in (features, features // 2):
        found = gradients(RandomProjections(size=size))[1]
        same = [torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(found, exact, strict=True)]
        assert all(same) == (size == features)
        assert torch.equal(found[-1], exact[-1]), "the last stage has the loss itself"
