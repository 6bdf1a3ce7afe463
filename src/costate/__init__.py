"""Costate trains deep networks without the backward lock.

As a library it takes a plain PyTorch model apart, without a trainer and without configuration files:

    decouple    a model of layers one behind the other, cut into stages
    Decoupled   what `decouple` makes: stages, and boundaries between them
    Boundary    what stands between two stages, to be put into a forward by hand
    Behind      a copy of the layers behind a boundary, which says the gradient there in place of a synthesizer
    load        the network that a run of train.py has trained, out of the run's folder
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import costate.importing  # noqa: F401  (lets torchvision, and so lightning, be imported beside any torch)

if TYPE_CHECKING:
    from costate.library.boundary import Boundary
    from costate.library.decoupling import Behind, Decoupled, decouple
    from costate.runs.trained import load

__all__ = ["Behind", "Boundary", "Decoupled", "decouple", "load"]

HOMES = {
    "Behind": "costate.library.decoupling",
    "Boundary": "costate.library.boundary",
    "Decoupled": "costate.library.decoupling",
    "decouple": "costate.library.decoupling",
    "load": "costate.runs.trained",
}


def __getattr__(name: str) -> Any:
    """Imports torch only for those who use the library: `python train.py --help` does not wait for it."""
    if name not in HOMES:
        raise AttributeError(f"module 'costate' has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
