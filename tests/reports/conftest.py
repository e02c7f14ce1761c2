"""Fixtures with small runs."""

from ..run_fixtures import *  # noqa: F403 - fixtures, which are all that it names
