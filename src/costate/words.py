"""Moved."""

from costate.config.words import *  # noqa: F403
