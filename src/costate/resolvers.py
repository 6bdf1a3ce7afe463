"""Moved."""

from costate.config.composing import *  # noqa: F403
