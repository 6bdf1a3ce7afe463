"""Data modules: rows held in memory, read in an order that a seed fixes, one gather per batch."""

from costate import compat  # noqa: F401  # before torchvision and lightning
