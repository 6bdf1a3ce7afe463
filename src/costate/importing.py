"""Lets torchvision be imported beside a torch that its compiled operators were not built for.

PyPI's torchvision wheel is built for CUDA. Beside a CPU-only torch its operators do not load, and `import torchvision`
(so also `import lightning`, by way of torchmetrics) fails, because it registers fake kernels for two operators that do
not exist. Data sets and transforms need neither, so declaring the two schemas is enough.

`import costate` does so, and in every program of the environment the costate.pth that the installation leaves beside
the packages, by which each Python imports this as it starts. Light: torch is imported where torchvision is, and nowhere
else.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
declared: list[Any] = []
"""Declarations live as long as these objects do."""


class DeclaredFirst(MetaPathFinder):
    """Finds torchvision where it is, and declares what it lacks before what is found is executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == "torchvision" else None
        if spec is None or spec.loader is None:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            declare_missing(spec)
            execute(module)

        loader.exec_module = exec_module
        return spec


def declare_missing(package: ModuleSpec) -> None:
    """Declares the schemas that torchvision expects and that nobody has declared, its own operators least of all."""
    import torch

    operators = PathFinder.find_spec("_C", package.submodule_search_locations)
    if operators and operators.origin:
        # Loaded the way torchvision does.
        with suppress(ImportError, OSError):
            torch.ops.load_library(operators.origin)
            return
    missing = [schema for name, schema in SCHEMAS.items() if not hasattr(torch.ops.torchvision, name)]
    if missing:
        declared.append(torch.library.Library("torchvision", "FRAGMENT"))
    for schema in missing:
        declared[-1].define(schema)


if not any(isinstance(finder, DeclaredFirst) for finder in sys.meta_path):
    sys.meta_path.insert(0, DeclaredFirst())
