"""Moved."""

from costate.runs.trained import *  # noqa: F403
