"""Decisions made for a run beyond its settings; they are saved, and its replay uses them."""

from typing import Any

import jax

from poise.learning.host_worker import HostProgram
from poise.training.components import RunComponents
from poise.training.jax_settings import decisive_settings

__all__ = ["decisions"]


def decisions(components: RunComponents) -> dict[str, Any]:
    """Return the decisions that ``config.json`` records under ``resolved``; JSON types."""
    program, envs = components.program, components.envs
    return {
        "world": envs.kind,
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
