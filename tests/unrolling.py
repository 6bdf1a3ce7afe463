"""Small recurrent networks on spans of steps, in float64."""

import copy
from functools import cache

import torch
from hydra.utils import instantiate
from torch import nn
from torch.nn import functional as F

from composing import method
from costate.core.tasks import AtEnd, Classification, Symbols
from costate.execution.unrolled import Unrolled
from costate.training.module import stages as make_stages
from small import NODES

BATCH, STEPS, FEATURES, CLASSES, SPAN = 5, 11, 3, 4, 4
RULES = {"sg": ["method=sg", "method/synthesizer=linear"], "backprop": ["method=backprop"], "none": ["method=none"]}
TASKS = {"symbols": Symbols(CLASSES, told=5), "at the end": AtEnd(Classification(CLASSES))}


def batch(task=TASKS["symbols"], seed=1, steps=STEPS):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(BATCH, steps, FEATURES, generator=random, dtype=torch.float64)
    if isinstance(task, AtEnd):
        return x, torch.randint(CLASSES, (BATCH,), generator=random)
    # A step in three does not count.
    return x, torch.randint(CLASSES, (BATCH, steps), generator=random).masked_fill(torch.arange(steps) % 3 == 0, -1)


def streams(count):
    """Batches each of which goes on with what the one before has ended with."""
    random = torch.Generator().manual_seed(3)
    x = torch.randn(BATCH, count * 6, FEATURES, generator=random, dtype=torch.float64)
    y = torch.randint(CLASSES, (BATCH, count * 6), generator=random)
    return [(x[:, i : i + 6], y[:, i : i + 6]) for i in range(0, count * 6, 6)]


@cache
def rules():
    """Composing takes longer than all that is done here."""
    return {name: method(*words) for name, words in RULES.items()}


def blocks(arch, outputs, layers=1, stages=1):
    torch.manual_seed(0)
    return instantiate(NODES[arch], (STEPS, FEATURES), outputs, layers=layers, _convert_="all").cut(stages)


def made(rule, arch="lstm", task=TASKS["symbols"], span=SPAN, later=0.0, layers=1, stages=1):
    each = copy.deepcopy(rules()[rule])
    parts = make_stages(blocks(arch, task.outputs, layers, stages), (STEPS, FEATURES), task, each)
    return Unrolled([part.double() for part in parts], each, span=span, later=later)


def played(execution, x, y, n=0, ahead=0):
    for stage in execution.stages:
        for p in stage.parameters():
            p.grad = None
    return execution.step(n, x, y, ahead=ahead)


def gradients(module):
    return {name: p.grad for name, p in module.named_parameters()}


def assert_same(found, expected):
    """A gradient that never came is zero."""
    assert found.keys() == expected.keys()
    for name, g in expected.items():
        a, b = (torch.zeros(()) if each is None else each for each in (found[name], g))
        torch.testing.assert_close(*torch.broadcast_tensors(a.double(), b.double()), rtol=1e-9, atol=1e-12, msg=name)
    assert any(g is not None and g.abs().max() > 1e-4 for g in expected.values())


def bodies(execution):
    return nn.ModuleList(stage.block for stage in execution.stages)


def interfaces(execution):
    return [stage.interface for stage in execution.stages]


def taught(execution):
    """Interfaces with weights, as if they had learned."""
    torch.manual_seed(2)
    for interface in interfaces(execution):
        for p in interface.parameters():
            nn.init.normal_(p, std=0.1)
    return execution


def context(y, t):
    """What a synthesizer is told at step t."""
    return behind(y, t) if y.dim() == 2 else F.one_hot(y, CLASSES).float()


def behind(y, start):
    """Classes of the five steps from there on, zeros where none is asked for."""
    classes = F.pad(y, (0, 5), value=CLASSES)[:, start : start + 5]
    return F.one_hot(classes.where(classes >= 0, CLASSES), CLASSES + 1)[..., :CLASSES].flatten(1).float()
