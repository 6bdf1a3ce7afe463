"""What `import costate` gives, and what it needs."""

import subprocess
import sys

import pytest

import costate

ALONE = """
import sys, costate
heavy = {"torch", "lightning", "hydra", "torchmetrics"}
print(sorted(heavy & sys.modules.keys()))
from costate import Boundary, Decoupled, decouple
print(sorted(heavy & sys.modules.keys()))

import torch
from torch import nn
from torch.nn import functional as F
boundary = Boundary((5,), classes=3)
nn.init.normal_(boundary.synthesizer.weight)
front, back = nn.Linear(4, 5), nn.Linear(5, 3)
x, y = torch.randn(6, 4), torch.randint(3, (6,))

def loss(x, y):
    h = boundary(front(x), context=y)
    return F.cross_entropy(back(boundary(h.tanh(), context=y)), y)

found = []
for each in (loss, torch.compile(loss, backend="aot_eager", fullgraph=True)):
    each(x, y).backward()
    parameters = [p for module in (front, boundary, back) for p in module.parameters()]
    found.append([p.grad for p in parameters])
    for p in parameters:
        p.grad = None
print(all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found)))
"""


def test_it_needs_torch_alone_and_compiles_in_one_piece():
    """In a process of its own: where types are checked at run time, nothing compiles."""
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "['torch']", "True"]


def test_everything_public_is_there_and_says_what_it_is():
    assert set(costate.__all__) <= set(dir(costate))
    for name in costate.__all__:
        assert len(getattr(costate, name).__doc__.splitlines()[0]) > 30
    with pytest.raises(AttributeError, match="no attribute 'bounday'"):
        _ = costate.bounday
