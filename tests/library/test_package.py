"""What `import costate` gives, and what it needs."""

import subprocess
import sys
from importlib.metadata import distributions

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import costate
from running import ROOT

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


@pytest.mark.parametrize("python", ["3.10.0", "3.11.0", "3.11.2", "3.11.9", "3.12.0", "3.13.0"])
def test_versions_that_are_asked_for_run_on_every_python(python):
    """On Python 3.11.2, Debian's, `make setup` ended at a package of which a later version of 3.11 was asked."""
    found = {d.metadata["Name"]: (d.version, d.metadata["Requires-Python"]) for d in distributions()}
    installed = {canonicalize_name(name): row for name, row in found.items() if name}
    asked = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    here = {"python_version": python.rpartition(".")[0], "python_full_version": python}
    known = 0
    for one in asked:
        version, range_ = installed.get(canonicalize_name(one.name), ("", None))
        if (one.marker is None or one.marker.evaluate(here)) and range_ and version in one.specifier:
            known += 1
            assert python in SpecifierSet(range_), one
    assert known > 20
