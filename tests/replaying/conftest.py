"""Fixtures: small finished runs."""

from ..run_fixtures import *  # noqa: F403 - it contains only fixtures
