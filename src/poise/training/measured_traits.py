"""What was found out before training; a replay reads it from ``config.json``."""

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["MeasuredTraits"]


class MeasuredTraits(NamedTuple):
    """Traits of the environment, found out once, before training, for the whole run.

    Attributes:
        slow_steps: a step takes so long that less time should be spent on evaluations.
        remembers: an episode depends on earlier ones in its copy; which copy plays which episode of
            an evaluation must then not depend on how fast the workers are.
        has_time_limit: episodes are truncated after a number of steps, or assumed to be.
        selects_in_twin: there is a compiled twin, and candidates are compared in it; False in runs
            of older versions, which compared them in Gymnasium's environment.
        selects_sparingly: selections take a limited share of the steps, even if steps are fast;
            False in runs of older versions.
        checks_in_twin: selections in the twin delay nothing, and a candidate that may have reached
            the target is compared with it in many more episodes there, before it is verified;
            False in runs of older versions.
        selects_in_envpool: candidates are compared in EnvPool, where they are trained; False in
            runs of older versions, which compared them in Gymnasium's environment.
        verifies_improvements: a run that goes on after it has solved the environment verifies
            policies that seem better than its best one; False in runs of older versions.
    """

    slow_steps: bool = False
    remembers: bool = False
    has_time_limit: bool = True
    selects_in_twin: bool = False
    selects_sparingly: bool = False
    checks_in_twin: bool = False
    verifies_improvements: bool = False
    selects_in_envpool: bool = False

    @classmethod
    def recorded(cls, resolved: Mapping[str, Any]) -> "MeasuredTraits":
        """Return the traits measured when a run began, to replay or resume it."""
        return cls(
            resolved.get("slow_steps") is True,
            resolved.get("remembers") is True,
            resolved.get("has_time_limit") is not False,
            resolved.get("selects_in_twin") is True,
            resolved.get("selects_sparingly") is True,
            resolved.get("checks_in_twin") is True,
            resolved.get("verifies_improvements") is True,
            resolved.get("selects_in_envpool") is True,
        )

    @property
    def checks_selections(self) -> bool:
        """Whether a candidate must reach the target in more episodes before it is verified."""
        return self.checks_in_twin or self.selects_in_envpool
