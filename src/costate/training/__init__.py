"""Training a network with Lightning."""

import costate.compat  # noqa: F401  (before lightning, which imports torchvision by way of torchmetrics)
