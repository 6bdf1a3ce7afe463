"""Lets torchvision be imported beside a torch that its compiled operators were not built for.

PyPI's torchvision wheel is built for CUDA. Beside a CPU-only torch its operators do not load, and `import torchvision`
(so also `import lightning`, by way of torchmetrics) fails, because it registers fake kernels for two operators that do
not exist. Data sets and transforms need neither, so declaring the two schemas is enough. Import this module first.
"""

from importlib.machinery import PathFinder
from importlib.util import find_spec

import torch

SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def load_operators() -> bool:
    """Load torchvision's compiled operators the way torchvision does, and say whether it worked."""
    package = find_spec("torchvision")
    operators = package and PathFinder.find_spec("_C", package.submodule_search_locations)
    if not operators or not operators.origin:
        return False
    try:
        torch.ops.load_library(operators.origin)
    except (ImportError, OSError):
        return False
    return True


def declare_missing() -> torch.library.Library | None:
    """Declare the schemas that torchvision expects and that nobody declared; None where nothing is missing."""
    if load_operators():
        return None
    missing = [schema for name, schema in SCHEMAS.items() if not hasattr(torch.ops.torchvision, name)]
    if not missing:
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in missing:
        library.define(schema)
    return library


# The declarations live as long as this object does.
declared = declare_missing()
