"""Conversion of a run's settings to those of its server."""

from poise.config import STEP_LIMIT, TrainConfig
from poise.evaluation.evaluator import SELECTION_EPISODES
from poise.learning.algorithms.registry import make_algorithm
from poise.learning.server_settings import ServerSettings
from poise.training.placement import Placement

__all__ = ["server_settings"]


def server_settings(
    config: TrainConfig,
    target_return: float | None,
    placement: Placement | None = None,
    has_time_limit: bool = True,
) -> ServerSettings:
    """Return the server's settings; the learning rate must have been decided."""
    if config.learning_rate is None:
        raise ValueError("the learning rate is not decided")
    algorithm = make_algorithm(config)
    return ServerSettings(
        metrics=algorithm.metrics,
        discipline=algorithm.discipline,
        workers=config.workers,
        learning_rate=config.learning_rate,
        anneal_steps=config.max_steps if config.learning_rate_schedule == "linear" else None,
        max_steps=config.max_steps,
        max_episodes=config.max_episodes,
        evaluation_interval=config.evaluation_interval,
        target_return=target_return,
        stop_when_solved=config.stop_when_solved,
        checkpoint_steps=config.checkpoint_steps,
        target_interval=algorithm.target_interval,
        max_bad_gradients=config.max_bad_gradients,
        selection_episodes=config.selection_episodes or SELECTION_EPISODES,
        training_ratio=0 if placement is None else placement.training_ratio,
        selection_ratio=0 if placement is None else placement.selection_ratio,
        evaluates_freely=placement is not None and placement.evaluates_freely,
        verifies_improvements=placement is not None and placement.measured.verifies_improvements,
        stop_when_flat=config.stop_when_flat,
        step_limit=config.evaluation_step_limit or (STEP_LIMIT if has_time_limit else None),
    )
