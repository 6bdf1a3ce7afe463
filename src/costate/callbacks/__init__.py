"""Callbacks that measure a training and never touch its arithmetic; one file, one callback."""

import costate.compat  # noqa: F401  (before lightning, which imports torchvision by way of torchmetrics)
