"""Moved."""

from costate.config.settings import *  # noqa: F403
