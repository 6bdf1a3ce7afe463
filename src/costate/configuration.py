"""Moved."""

from costate.config import CONF  # noqa: F401
from costate.config.composing import composed  # noqa: F401
