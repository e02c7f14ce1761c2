"""Decisions made for a run beyond its settings; they are saved, and its replay uses them."""

from importlib.metadata import version
from typing import Any

import jax

from poise.config import WorldKind
from poise.learning.host_worker import HostProgram
from poise.training.components import RunComponents
from poise.training.jax_settings import decisive_settings

__all__ = ["decisions"]

_PACKAGES: dict[WorldKind, str] = {"xla": "ale-py", "atari": "ale-py", "envpool": "envpool"}
"""Packages that step environments for Gymnasium's own; another version may step differently."""


def decisions(components: RunComponents) -> dict[str, Any]:
    """Return the decisions that ``config.json`` records under ``resolved``; JSON types."""
    program, envs = components.program, components.envs
    return {
        "world": envs.kind,
        "world_package": _package(envs.kind),
        "launcher": components.placement.launcher.name,
        "acting": program.acting if isinstance(program, HostProgram) else "xla",
        "backend": jax.default_backend(),
        "compile_options": components.options,
        "jax_settings": decisive_settings(),
        "target_return": components.target_return,
        **components.measured._asdict(),
        "reward_clip": envs.shaping.clip,
        "learning_rate": components.learning_rate,
        "normalize_observations": components.normalization,
        "normalize_rewards": components.reward_normalization,
        "activation": components.agent.spec.activation,
        "parameters": components.agent.layout.size,
    }


def _package(world: WorldKind) -> str | None:
    """Return name and version of the package that steps a world; None for Gymnasium's or ours."""
    package = _PACKAGES.get(world)
    return None if package is None else f"{package} {version(package)}"
