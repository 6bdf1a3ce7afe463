"""Moved."""

from costate.config.schema import *  # noqa: F403
