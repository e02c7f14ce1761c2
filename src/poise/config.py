"""The settings of a training run: frozen, validated, one docstring each.

The command line is generated from this class, so a setting's docstring is its ``--help`` text.
"""

import dataclasses
import os
import typing
from typing import Literal

from tyro.conf import Positional

from poise.argument_names import know
from poise.errors import ConfigError
from poise.validation import checkpoint_interval, validated

__all__ = [
    "PROCESSES",
    "SERIAL",
    "STEP_LIMIT",
    "THREADS",
    "EnvironmentChoice",
    "LauncherName",
    "TrainConfig",
    "WorldChoice",
    "WorldKind",
    "is_atari_name",
    "usable_cores",
]

DEFAULT_MAX_STEPS = 1_000_000
STEP_LIMIT = 10_000
"""An episode that is scored is cut after this many steps, where nothing else is said."""

WorldKind = Literal["compiled", "xla", "atari", "vector", "copies"]
WorldChoice = Literal["auto", "compiled", "xla", "atari", "vector", "copies"]
LauncherName = Literal["threads", "processes", "serial"]
THREADS, PROCESSES, SERIAL = typing.get_args(LauncherName)


def usable_cores() -> int:
    """Number of processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_atari_name(name: str) -> bool:
    """Whether ale-py's environments are meant, as in ``ALE/Pong-v5``."""
    return name.rpartition(":")[2].startswith("ALE/")


@dataclasses.dataclass(frozen=True)
class EnvironmentChoice:
    """Which environment, and how it is set up: what a policy must meet again to score the same.

    Attributes:
        name: Gymnasium id, or import path ``module:attribute`` or ``./file.py:attribute``.
        env_kwargs: arguments of its constructor, as ``key=value``.
        wrappers: import paths of its wrappers.
        sticky_actions: Atari: probability that an action is repeated.
        ignore_observations: parts of Dict and Tuple observations that are left out.
    """

    name: str
    env_kwargs: tuple[str, ...] = ()
    wrappers: tuple[str, ...] = ()
    sticky_actions: float = 0.0
    ignore_observations: tuple[str, ...] = ()

    @property
    def is_atari(self) -> bool:
        """Whether it is one of ale-py's."""
        return is_atari_name(self.name)

    @property
    def imports(self) -> list[str]:
        """The import paths that making the environment runs code from."""
        return [path for path in (self.name, *self.wrappers) if ":" in path]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a training run.

    Raises:
        ConfigError: a value is impossible; the message names it and what is allowed.
    """

    environment: Positional[str] = "CartPole-v1"
    """Gymnasium id (also module:id), or an import path of a class or function: module:attribute, or
    ./file.py:attribute."""

    env_kwargs: tuple[str, ...] = ()
    """Arguments of the environment's constructor as key=value; values are Python literals. From
    Python also a dict."""

    wrappers: tuple[str, ...] = ()
    """Import paths module:attribute of Gymnasium wrappers, applied in this order."""

    world: WorldChoice = "auto"
    """What training steps: the compiled twin; ale-py's XLA functions, inside the compiled cycle;
    ale-py's or Gymnasium's vector implementation, from Python; or copies in a loop. auto takes the
    first of these that serves the environment as configured."""

    ignore_observations: tuple[str, ...] = ()
    """Parts of Dict and Tuple observations that are left out, by key (mission), or by path
    (['robot']['name']); saved with the policy."""

    sticky_actions: float = 0.0
    """Atari: probability that an action is repeated (Machado et al. 2018); stated with scores."""

    algorithm: Literal["a3c", "a2c", "ppo"] = "a3c"
    """Learning algorithm: A3C (Mnih et al. 2016); A2C, whose workers wait for each other; or PPO
    (Schulman et al. 2017), which also learns several times from each batch."""

    seed: int = 0
    """Root seed; every random number of the run derives from it."""

    workers: int = dataclasses.field(default_factory=usable_cores)
    """Number of workers. Default: the usable processor cores."""

    launcher: Literal["auto", LauncherName] = "auto"
    """Where workers run: threads, processes, or serial (in turn; deterministic for a seed). auto:
    threads for compiled and C++ environments, processes for Python ones, which hold the GIL (it is
    not measured; poise doctor measures both)."""

    envs_per_worker: int = 8
    """Environment copies that each worker steps together."""

    rollout_length: int = 10
    """Steps that each copy takes between two updates (t_max in the A3C paper)."""

    learning_rate: float | None = None
    """Step size of the optimizer. Default: 3e-3; with the convolutional network, which images get,
    1e-3."""

    learning_rate_schedule: Literal["constant", "linear"] = "constant"
    """Constant, or annealed linearly to 0 at --max-steps (Mnih et al. 2016, section 5)."""

    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Adam, or the paper's RMSProp; their statistics are shared by all workers."""

    adam_beta1: float = 0.0
    """Decay of Adam's mean of gradients (Kingma & Ba 2015). Workers that apply gradients to newer
    parameters already act like momentum (Mitliagkas et al. 2016), so none is added."""

    adam_beta2: float = 0.999
    """Decay of Adam's mean of squared gradients (Kingma & Ba 2015)."""

    rmsprop_decay: float = 0.99
    """Decay of RMSProp's mean of squared gradients (Mnih et al. 2016)."""

    optimizer_epsilon: float = 1e-5
    """Added to the denominator of Adam, or under the square root of RMSProp."""

    max_gradient_norm: float = 1.0
    """Gradients with a larger global norm are scaled down to it; inf turns clipping off."""

    discount: float = 0.99
    """Discount per step, from 0 to 1."""

    gae_lambda: float = 0.98
    """Lambda of generalised advantage estimation, from 0 to 1; 1 is the paper's n-step return."""

    normalize_advantages: bool = True
    """Shift and scale the advantages of each rollout to mean 0 and variance 1."""

    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus; 0.01 in the A3C paper."""

    clip_range: float = 0.2
    """PPO: how far a probability ratio may be from 1 before a step is no longer learned from."""

    epochs: int = 4
    """PPO: how often each batch is learned from."""

    minibatches: int = 4
    """PPO: parts of a batch (the rollouts of all workers), one gradient each."""

    value_coefficient: float = 0.5
    """Weight of the value loss, which is half the mean squared error."""

    hidden_sizes: tuple[int, ...] = (100,)
    """Units of each hidden layer, in separate ReLU trunks for policy and value. Observations with
    images get a convolutional network instead, after the A3C paper's."""

    gaussian_scale: Literal["free", "network"] = "free"
    """Scale of continuous actions: a free parameter of each, or computed by the network."""

    normalize_observations: Literal["auto", "on", "off"] = "auto"
    """Normalise observed floats, and numbers that no bounds describe, with their running mean and
    variance, saved with the policy. auto: where bounds are infinite or more than 1000 apart. Other
    Boxes are scaled by their bounds."""

    image_axes: str = "auto"
    """Axes of images: H height, W width, C colours, S stacked frames, for example SHWC. Parts with
    this many axes are then images, of whatever bounded numbers. auto: bytes of at least 12 x 12
    pixels; the largest two neighbouring axes are H and W. none: there are no images."""

    failure_reward: float | None = None
    """Replaces the reward of a terminating step, in training only; scores stay true."""

    reward_scale: float = 1.0
    """Factor on the rewards, for the loss only; scores stay true."""

    reward_clip: float | None = None
    """Bound on the magnitude of the (scaled) rewards, for the loss only. Default: 1 for Atari,
    none otherwise."""

    max_steps: int | None = None
    """Budget in environment steps; 1,000,000 if no budget is given. Schedules anneal to it."""

    max_episodes: int | None = None
    """Budget in finished training episodes."""

    max_seconds: float | None = None
    """Budget in seconds of training."""

    target_return: float | None = None
    """Mean return that solves the environment. Default: Gymnasium's reward_threshold."""

    stop_when_solved: bool = True
    """End the run when a verification reaches the target return."""

    stop_when_flat: int | None = None
    """End the run when no evaluation was better than all before for this many environment steps."""

    policy: Literal["greedy", "sampled"] = "greedy"
    """How the policy acts that is evaluated, verified and saved: the most probable action, or one
    sampled from the distribution. Some tasks only a stochastic policy can solve."""

    evaluation_interval: int = 4096
    """Environment steps between two evaluations; more where an evaluation
    takes more steps itself, so that it never costs more than the training in between, and at least
    a sixteenth of the steps so far."""

    selection_episodes: int | None = None
    """Episodes of an evaluation that decides whether a candidate is worth verifying. Default: 10;
    where a step of the environment takes milliseconds, in a short run fewer, but 2 at least."""

    verification_episodes: int | None = None
    """Fresh episodes of a verification, whose mean is the reported score. Default: 100; where a
    step of the environment takes milliseconds, in a short run fewer, but 3 at least."""

    evaluation_copies: int = 8
    """Environment copies that an evaluation has open at most; each plays its share of the episodes
    in turn, under processes in the workers' own. Fewer are made where making one is slow. Scores
    are the same for any number."""

    evaluation_step_limit: int | None = None
    """An evaluation episode is cut after this many steps, and counted as cut. Default: 10,000;
    where the environment has no time limit, four times the longest of the last 100 training
    episodes, but 1,000 at least, and 10,000 at most."""

    worker_timeout: float = 300.0
    """Seconds without an update after which a worker counts as hung."""

    max_restarts: int = 3
    """How many workers that died or hung are started again (processes only)."""

    restart_on_error: bool = False
    """Start a worker again whose environment raised, too (processes only)."""

    max_bad_gradients: int = 10
    """Gradients that are not finite are never applied; after more than this many the run ends."""

    checkpoint_every: str = "30s"
    """How often a checkpoint is written: seconds as 30s, or environment steps as 100000steps. One
    is always written at the end."""

    keep_checkpoints: int = 3
    """Checkpoints that are kept; older ones are removed."""

    record_every: int = 10
    """Updates between two rows about updates in metrics.jsonl."""

    def __post_init__(self) -> None:
        values = validated(vars(self), typing.get_type_hints(type(self)))
        for name, value in values.items():
            object.__setattr__(self, name, value)
        if self.max_steps is None and self.max_episodes is None and self.max_seconds is None:
            object.__setattr__(self, "max_steps", DEFAULT_MAX_STEPS)
        if self.learning_rate_schedule == "linear" and self.max_steps is None:
            raise ConfigError(
                "learning_rate_schedule is linear, which anneals to 0 at max_steps: "
                "give max_steps too"
            )

        batch = self.rollout_length * self.envs_per_worker * self.workers
        if self.algorithm == "ppo" and batch % self.minibatches:
            raise ConfigError(
                f"minibatches is {self.minibatches}, but must divide the {batch} steps of a batch: "
                f"rollout_length {self.rollout_length} x envs_per_worker {self.envs_per_worker} x "
                f"workers {self.workers}"
            )

    @property
    def checkpoint_seconds(self) -> float | None:
        """Seconds between two checkpoints; None if they go by steps."""
        number, unit = checkpoint_interval(self.checkpoint_every) or (0.0, "")
        return number if unit == "s" else None

    @property
    def checkpoint_steps(self) -> int | None:
        """Environment steps between two checkpoints; None if they go by time."""
        number, unit = checkpoint_interval(self.checkpoint_every) or (0.0, "")
        return int(number) if unit == "steps" else None

    @property
    def environment_choice(self) -> EnvironmentChoice:
        """The environment with its set-up."""
        return EnvironmentChoice(
            self.environment,
            self.env_kwargs,
            self.wrappers,
            self.sticky_actions,
            self.ignore_observations,
        )

    @property
    def longest_evaluation_episode(self) -> int:
        """Steps after which an episode of an evaluation is cut, whatever it is."""
        return self.evaluation_step_limit or STEP_LIMIT


know(typing.get_type_hints(TrainConfig))
