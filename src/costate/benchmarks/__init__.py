"""Measurements that the docs quote, each with what it is compared to."""

import costate.compat  # noqa: F401  (before lightning, which imports torchvision by way of torchmetrics)
