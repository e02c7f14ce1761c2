"""Placement of a run's workers, and what follows from it for its evaluations."""

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
"""Ratio of training time to the time for selection, and to that for verification, if steps are
slow. With the baseline's time, evaluations take less than a quarter of a run."""
TRAINING_TO_SELECTION = 8
"""Minimum number of training steps for each step of selection, if steps are fast. Without it, the
selections of LunarLander took half of the time of a run."""


class Placement(NamedTuple):
    """Where a run's workers run.

    Attributes:
        config: the run's settings.
        envs: the environments that training steps.
        measured: properties of the environment that were measured before training.
    """

    config: TrainConfig
    envs: World
    measured: MeasuredTraits

    @property
    def launcher(self) -> Launcher:
        """The launcher of the workers, with ``auto`` resolved."""
        wanted = self.config.launcher
        name: LauncherName = usual_launcher(self.envs) if wanted == "auto" else wanted
        return LAUNCHERS[name]

    @property
    def workers_play(self) -> bool:
        """Whether workers play the episodes of evaluations."""
        return (
            self.launcher.traits.plays_evaluations
            and not self.has_one_copy_at_a_time
            and self.config.most_evaluation_copies > 1
            and not self.measured.remembers
        )

    @property
    def has_one_copy_at_a_time(self) -> bool:
        """Whether the only training copy is closed while another copy is evaluated in."""
        return isinstance(self.envs, HostEnvs) and needed_copies(self.config) == 1

    @property
    def opens_evaluation_first(self) -> bool:
        """Whether this process makes the copies for evaluations before training steps its own.

        They are made later, when they are needed, if only one copy may be open at a time, if
        workers step in turn, or if training does not step Gymnasium's own environments.
        """
        return (
            isinstance(self.envs, HostEnvs)
            and not self.has_one_copy_at_a_time
            and not self.launcher.traits.in_turn
            and not self.workers_play
        )

    @property
    def training_ratio(self) -> int:
        """Minimum number of training steps for each evaluation step; 0 if steps are fast."""
        if not self.measured.slow_steps:
            return 0
        in_turn = self.launcher.traits.steps_in_turn(self.envs.holds_gil)
        training = 1 if in_turn else self.config.workers
        # The smallest evaluations have this many episodes, so no more can be played in parallel.
        playing = min(training, FEWEST_SELECTED) if self.workers_play else 1
        return -(-TRAINING_TO_EVALUATION * training // playing)

    @property
    def selection_ratio(self) -> int:
        """Minimum number of training steps for each step of selection; 0 if there is none."""
        if self.measured.selects_in_twin or not self.measured.selects_sparingly:
            return self.training_ratio
        return max(self.training_ratio, TRAINING_TO_SELECTION)

    @property
    def evaluates_freely(self) -> bool:
        """Whether no evaluation has to wait for as many training steps as the last one took.

        In a compiled twin a selection takes milliseconds, and what it lets through is rarely
        verified in vain.
        """
        return self.measured.checks_in_twin and not self.measured.slow_steps


def needed_copies(config: TrainConfig) -> int:
    """Return the maximum number of environment copies that a run has open at the same time."""
    training = config.workers * config.envs_per_worker
    return training if training == 1 else training + config.most_evaluation_copies
