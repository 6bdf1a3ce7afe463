"""Moved."""

from costate.runs.writing import *  # noqa: F403
