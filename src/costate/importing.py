"""Lets a plain `import torchvision`, or lightning, work in every program of the environment, as `costate.compat` does.

The installation leaves a costate.pth beside the packages, by which each Python imports this as it starts. Light: torch
is imported where torchvision is, and nowhere else.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


class CompatFirst(MetaPathFinder):
    """Finds torchvision where it is, and imports costate.compat before what is found is executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == "torchvision" else None
        if spec is None or spec.loader is None:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            import costate.compat  # noqa: F401

            execute(module)

        loader.exec_module = exec_module
        return spec


if not any(isinstance(finder, CompatFirst) for finder in sys.meta_path):
    sys.meta_path.insert(0, CompatFirst())
