"""Moved."""

from costate.runs.program import *  # noqa: F403
