"""Moved."""

from costate.config.lookup import *  # noqa: F403
