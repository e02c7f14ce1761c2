"""Where a run's workers are, and what follows from it for its evaluations."""

from typing import NamedTuple

from poise.config import LauncherName, TrainConfig
from poise.envs.host_envs import HostEnvs
from poise.envs.registry import World
from poise.evaluation.evaluator import FEWEST_SELECTED
from poise.launchers.launcher import Launcher
from poise.launchers.registry import LAUNCHERS
from poise.training.launcher_choice import usual_launcher
from poise.training.measured_traits import MeasuredTraits

__all__ = ["Placement", "needed_copies"]

TRAINING_TO_EVALUATION = 10
"""Seconds of training for each of selection, and for each of verification, where steps are slow:
with the baseline's, less than a quarter of a run."""


class Placement(NamedTuple):
    """Where a run's workers are.

    Attributes:
        config: the run's settings.
        envs: what training steps.
        measured: what was found out about the environment before training.
    """

    config: TrainConfig
    envs: World
    measured: MeasuredTraits

    @property
    def launcher(self) -> Launcher:
        """What runs the workers, once ``auto`` is decided."""
        wanted = self.config.launcher
        name: LauncherName = usual_launcher(self.envs) if wanted == "auto" else wanted
        return LAUNCHERS[name]

    @property
    def workers_play(self) -> bool:
        """Whether the workers play the episodes of evaluations."""
        return (
            self.launcher.traits.plays_evaluations
            and not self.has_one_copy_at_a_time
            and self.config.evaluation_copies > 1
            and not self.measured.remembers
        )

    @property
    def has_one_copy_at_a_time(self) -> bool:
        """Whether the one copy that trains is closed while another is evaluated in."""
        return isinstance(self.envs, HostEnvs) and needed_copies(self.config) == 1

    @property
    def opens_evaluation_first(self) -> bool:
        """Whether the copies for evaluations are made here before training steps its own.

        Where one copy must do for all, it is made when the others are closed; where workers step in
        turn, or training steps none of Gymnasium's environments, when it is needed.
        """
        return (
            isinstance(self.envs, HostEnvs)
            and not self.has_one_copy_at_a_time
            and not self.launcher.traits.in_turn
            and not self.workers_play
        )

    @property
    def thrift(self) -> int:
        """Steps of training for each step of evaluation, at least; 0 where steps are quick."""
        if not self.measured.slow_steps:
            return 0
        in_turn = self.launcher.traits.steps_in_turn(self.envs.holds_gil)
        training = 1 if in_turn else self.config.workers
        # However many play, of the fewest episodes no more than these are played side by side.
        playing = min(training, FEWEST_SELECTED) if self.workers_play else 1
        return -(-TRAINING_TO_EVALUATION * training // playing)


def needed_copies(config: TrainConfig) -> int:
    """Copies of the environment that a run has open at a time, at most."""
    training = config.workers * config.envs_per_worker
    return training if training == 1 else training + config.evaluation_copies
