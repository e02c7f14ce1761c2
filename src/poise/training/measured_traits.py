"""What is measured before a run and decides how it goes; a replay is told, and measures nothing."""

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["MeasuredTraits"]


class MeasuredTraits(NamedTuple):
    """What is found out about an environment before training, once, and holds for the whole run.

    Attributes:
        slow_steps: a step takes so long that evaluations are to be sparing.
        remembers: an episode depends on those before it in its copy; then which copy plays which
            one of an evaluation must not depend on how fast the workers are.
        has_time_limit: episodes are truncated after a number of steps, or so it is supposed.
    """

    slow_steps: bool = False
    remembers: bool = False
    has_time_limit: bool = True

    @classmethod
    def recorded(cls, resolved: Mapping[str, Any]) -> "MeasuredTraits":
        """What was measured when a run began, for its replay or its resumption."""
        return cls(
            resolved.get("slow_steps") is True,
            resolved.get("remembers") is True,
            resolved.get("has_time_limit") is not False,
        )
