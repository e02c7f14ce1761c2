"""The settings of a training run: a frozen, validated dataclass with one docstring per setting.

The command line is generated from it: a setting's docstring is its ``--help`` text.
"""

import dataclasses
import functools
import os
import typing
from typing import Any, Literal

from tyro.conf import Positional

from poise.argument_names import know
from poise.errors import ConfigError
from poise.validation import checkpoint_interval, validated

__all__ = [
    "EVALUATION_COPIES",
    "PROCESSES",
    "SERIAL",
    "STEP_LIMIT",
    "THREADS",
    "EnvironmentChoice",
    "LauncherName",
    "Schedule",
    "TrainConfig",
    "WorldChoice",
    "WorldKind",
    "is_atari_name",
    "usable_cores",
]

DEFAULT_MAX_STEPS = 1_000_000
STEP_LIMIT = 10_000
"""Default step limit of an episode that is scored."""
EVALUATION_COPIES = 8
"""Default maximum number of environment copies that are open in an evaluation."""

WorldKind = Literal["compiled", "xla", "atari", "envpool", "vector", "copies"]
WorldChoice = Literal["auto", "compiled", "xla", "atari", "envpool", "vector", "copies"]
Schedule = Literal["constant", "linear"]
LauncherName = Literal["threads", "processes", "serial"]
THREADS, PROCESSES, SERIAL = typing.get_args(LauncherName)


def usable_cores() -> int:
    """Number of processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_atari_name(name: str) -> bool:
    """Whether a name is that of an ale-py environment, such as ``ALE/Pong-v5``."""
    return name.rpartition(":")[2].startswith("ALE/")


@dataclasses.dataclass(frozen=True)
class EnvironmentChoice:
    """An environment and its configuration: what a policy needs to reach the same score again.

    Attributes:
        name: Gymnasium id, or import path ``module:attribute`` or ``./file.py:attribute``.
        env_kwargs: arguments of its constructor, as ``key=value``.
        wrappers: import paths of its wrappers.
        sticky_actions: Atari only: probability that the previous action is repeated.
        ignore_observations: parts of Dict and Tuple observations that are left out.
    """

    name: str
    env_kwargs: tuple[str, ...] = ()
    wrappers: tuple[str, ...] = ()
    sticky_actions: float = 0.0
    ignore_observations: tuple[str, ...] = ()

    @property
    def is_atari(self) -> bool:
        """Whether this is an ale-py environment."""
        return is_atari_name(self.name)

    @property
    def imports(self) -> list[str]:
        """The import paths whose code runs when the environment is created."""
        return [path for path in (self.name, *self.wrappers) if ":" in path]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a training run.

    Raises:
        ConfigError: a value is invalid; the message names it and says what is allowed.
    """

    environment: Positional[str] = "CartPole-v1"
    """Gymnasium id (also module:id), or the import path of a class or function: module:attribute or
    ./file.py:attribute."""

    env_kwargs: tuple[str, ...] = ()
    """Arguments of the environment's constructor as key=value; values are Python literals. In
    Python, a dict is accepted too."""

    wrappers: tuple[str, ...] = ()
    """Import paths module:attribute of Gymnasium wrappers, applied in this order."""

    world: WorldChoice = "auto"
    """How the environment is stepped in training: compiled (a JAX version of it), xla (ale-py's XLA
    functions, inside the compiled cycle), atari, envpool or vector (ale-py's, EnvPool's or
    Gymnasium's vector environment, called from Python), or copies (a Python loop over single
    environments). auto: the first of these that supports the environment as configured."""

    ignore_observations: tuple[str, ...] = ()
    """Parts of Dict and Tuple observations to leave out, each by its key (mission) or its path
    (['robot']['name']). Saved with the policy."""

    sticky_actions: float = 0.0
    """Atari only: probability, from 0 to 1, that the previous action is repeated (Machado et al.
    2018). Reported with scores."""

    algorithm: Literal[
        "a3c", "a2c", "ppo", "impala", "appo", "nstep_q", "one_step_q", "one_step_sarsa"
    ] = "a3c"
    """Learning algorithm: a3c (Mnih et al. 2016), a2c (its synchronous variant: workers wait for
    each other), ppo (Schulman et al. 2017: synchronous too, several passes over each batch), impala
    (Espeholt et al. 2018: a3c's asynchrony, corrected by V-trace), appo (impala with ppo's loss),
    or the A3C paper's nstep_q, one_step_q and one_step_sarsa, which learn the value of each action
    (Discrete actions only). See docs/algorithms.md."""

    seed: int = 0
    """Root seed: every random number of the run is derived from it."""

    workers: int = dataclasses.field(default_factory=usable_cores)
    """Number of workers. Default: the number of usable processor cores."""

    launcher: Literal["auto", LauncherName] = "auto"
    """How workers run: in threads, in processes, or serial (one after the other in one thread;
    deterministic for a given seed). auto: threads for compiled and C++ environments, processes for
    Python environments, which hold the GIL. auto does not measure; poise doctor does."""

    envs_per_worker: int = 8
    """Number of environment copies that each worker steps together."""

    rollout_length: int = 10
    """Steps that each copy takes between two updates (t_max in the A3C paper)."""

    learning_rate: float | None = None
    """Step size of the optimizer. Default: 3e-3, or 1e-3 with the convolutional network that image
    observations use."""

    learning_rate_schedule: Schedule = "constant"
    """constant, or linear: annealed to 0 at --max-steps (Mnih et al. 2016, section 5)."""

    optimizer: Literal["adam", "rmsprop"] = "adam"
    """adam, or the paper's rmsprop. All workers share the optimizer's statistics."""

    adam_beta1: float = 0.0
    """Decay rate of Adam's mean of gradients (Kingma & Ba 2015). The default is 0 because gradients
    applied to newer parameters already act like momentum (Mitliagkas et al. 2016)."""

    adam_beta2: float = 0.999
    """Decay rate of Adam's mean of squared gradients (Kingma & Ba 2015)."""

    rmsprop_decay: float = 0.99
    """Decay rate of RMSProp's mean of squared gradients (Mnih et al. 2016)."""

    rmsprop_initial_square: float = 0.0
    """First value of RMSProp's mean of squared gradients: 0 as in the paper and PyTorch (the first
    updates are then up to ten times as large as later ones), 1 as in TensorFlow."""

    rmsprop_epsilon_inside: bool = True
    """Add --optimizer-epsilon under RMSProp's square root (as in the paper and TensorFlow), or else
    to the root (as in PyTorch, and so in Stable-Baselines3's A2C)."""

    optimizer_epsilon: float = 1e-5
    """Constant added to the denominator of Adam and RMSProp (see --rmsprop-epsilon-inside)."""

    max_gradient_norm: float = 1.0
    """Gradients with a larger global norm are scaled down to this norm; inf turns clipping off."""

    discount: float = 0.99
    """Discount factor per step, from 0 to 1."""

    gae_lambda: float = 0.98
    """Lambda of generalised advantage estimation, from 0 to 1; 1 gives the paper's n-step
    returns."""

    normalize_advantages: bool = True
    """Normalise the advantages of each rollout to mean 0 and variance 1."""

    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus in the loss. The A3C paper uses 0.01."""

    entropy_schedule: Schedule = "constant"
    """constant, or linear: the entropy bonus is annealed to 0 over --annealing-steps. Actor-critic
    methods only."""

    clip_range: float = 0.2
    """PPO and APPO only: how far the probability ratio may move away from 1 before it is
    clipped."""

    clip_range_schedule: Schedule = "constant"
    """PPO and APPO only: constant, or linear: the clip range is annealed to 0 over
    --annealing-steps (Schulman et al. 2017, Table 5)."""

    annealing_steps: int | None = None
    """Environment steps after which annealed settings (--entropy-schedule, --clip-range-schedule)
    are 0. Every update counts as whole rollouts, so steps that only reset are counted too. Default:
    the --max-steps that the run began with."""

    epochs: int = 4
    """PPO and APPO only: number of passes over each batch."""

    minibatches: int = 4
    """PPO and APPO only: number of minibatches per batch (as many rollouts as there are workers),
    each with one gradient step."""

    recompute_advantages: bool = False
    """PPO and APPO only: estimate advantages and returns anew for each pass, with the values as
    they are by then (Andrychowicz et al. 2021, arXiv 2006.05990, section 3.5), not only once."""

    vtrace_rho_clip: float = 1.0
    """IMPALA and APPO only: upper bound on the importance weight of a temporal-difference error
    (Espeholt et al. 2018, section 4.1)."""

    vtrace_c_clip: float = 1.0
    """IMPALA and APPO only: upper bound on the importance weight with which an error is passed back
    to earlier steps (Espeholt et al. 2018, section 4.1)."""

    target_interval: int = 2_000
    """nstep_q, one_step_q and one_step_sarsa only: environment steps between two copies of the
    parameters to the target network. The A3C paper uses 40,000 frames."""

    exploration_steps: int = 50_000
    """nstep_q, one_step_q and one_step_sarsa only: environment steps over which the probability of
    a random action is annealed from 1 to its final value. The A3C paper uses 4 million frames."""

    final_epsilon: float | None = None
    """nstep_q, one_step_q and one_step_sarsa only: final probability of a random action. Default:
    drawn for each copy and rollout, 0.1, 0.01 or 0.5 with probability 0.4, 0.3 and 0.3 (Mnih et al.
    2016, section 5.1)."""

    value_coefficient: float = 0.5
    """Weight of the value loss (see --value-loss), which is half the mean squared error.
    (Stable-Baselines3's vf_coef 0.5 weighs the whole error, so it is 1 here.)"""

    value_loss: Literal["squared", "huber"] = "squared"
    """Form of the value loss: squared, or huber, which grows linearly beyond an error of 1 (Huber
    1964). Actor-critic methods only."""

    value_clip_range: float | None = None
    """PPO and APPO only: how far a value may move while a batch is learned before it is clipped, in
    the unit of the returns that are learned (OpenAI Baselines' PPO2; Engstrom et al. 2020, arXiv
    2005.12729). Default: not clipped."""

    hidden_sizes: tuple[int, ...] = (100,)
    """Units in each hidden layer of the networks for policy and value. Image observations use a
    convolutional network like the A3C paper's instead."""

    trunk: Literal["separate", "shared"] = "separate"
    """Whether policy and value have hidden layers of their own, or share them (as in the A3C paper,
    section 4; a convolutional network is always shared)."""

    activation: Literal["auto", "tanh", "relu", "silu", "elu", "gelu"] = "auto"
    """Activation function of hidden layers. auto: tanh (as in Schulman et al. 2017 and
    Stable-Baselines3), or relu for images (as in the A3C paper)."""

    gaussian_scale: Literal["free", "network", "gsde"] = "free"
    """Standard deviation of continuous actions: free (one trained parameter per number), network
    (computed from the observation), or gsde (Raffin et al. 2021, arXiv 2005.05719: noise that is a
    function of the policy's features, drawn once for each rollout, so that exploration is smooth;
    in evaluations of sampled actions it is drawn for each action)."""

    squash_actions: bool = False
    """Pass continuous actions through tanh, so that they stay within their bounds (Haarnoja et al.
    2018, arXiv 1801.01290, appendix C), instead of clipping them."""

    initial_log_deviation: float = 0.0
    """Logarithm of the first standard deviation of continuous actions, if --gaussian-scale is free;
    bounds of the action space are at -1 and 1. With gsde it is that of each weight of the noise, so
    an action's is larger. 0 as in Stable-Baselines3 (log_std_init)."""

    normalize_observations: Literal["auto", "on", "off"] = "auto"
    """Normalise observed numbers, images aside, by their running mean and variance, which are saved
    with the policy. auto: only if some bounds are infinite or more than 1000 apart. Otherwise
    numbers are scaled by their bounds. Worth trying where numbers use little of their range, such
    as kinds of objects stored as bytes."""

    image_axes: str = "auto"
    """Axes of image observations, one letter each: H height, W width, C colours, S stacked frames;
    for example SHWC. Every bounded Box with this many axes is then an image. auto: a uint8 Box of
    at least 12 x 12 pixels is an image, and its largest two neighbouring axes are H and W. none:
    nothing is an image."""

    failure_reward: float | None = None
    """Reward that replaces the environment's in steps that terminate an episode, in training only.
    Default: no replacement. Scores are not affected."""

    reward_scale: float = 1.0
    """Factor applied to rewards in the loss. Scores are not affected."""

    reward_clip: float | None = None
    """Rewards are clipped to plus or minus this value (after --reward-scale) in the loss. Default:
    1 for Atari, no clipping otherwise. Scores are not affected."""

    normalize_rewards: Literal["auto", "on", "off"] = "auto"
    """Divide rewards in the loss by the running standard deviation of their discounted return,
    after the changes above, and clip them to plus or minus 10 (as VecNormalize and Gymnasium's
    NormalizeReward do). auto: only if actions are continuous, and rewards are not clipped. Scores
    are not affected."""

    max_steps: int | None = None
    """Budget in environment steps; a linear learning rate reaches 0 here. Default: 1,000,000 if no
    budget is given, otherwise no limit."""

    max_episodes: int | None = None
    """Budget in finished training episodes. Default: no limit."""

    max_seconds: float | None = None
    """Budget in seconds of training. Default: no limit."""

    target_return: float | None = None
    """Mean return at which the environment counts as solved. Default: Gymnasium's
    reward_threshold, if there is one."""

    stop_when_solved: bool = True
    """End the run when a verification reaches the target return. Otherwise the run uses up its
    budget, and later policies that seem better are verified, too."""

    stop_when_flat: int | None = None
    """End the run after this many environment steps without a new best evaluation. Default:
    never."""

    policy: Literal["greedy", "sampled"] = "greedy"
    """How actions are chosen when the policy is evaluated, verified and saved: greedy (the most
    probable action) or sampled (nstep_q, one_step_q and one_step_sarsa: greedy, but random with
    probability 0.05). Some tasks can only be solved by a stochastic policy."""

    evaluation_interval: int = 4096
    """Minimum number of environment steps between two evaluations. The interval is at least 1/16 of
    the steps so far, and 8 times the steps that the --selection-episodes of the last evaluation
    took, unless these were played in a compiled twin or training episodes reach the target
    return."""

    selection_episodes: int | None = None
    """Episodes per evaluation; the result decides whether the policy is worth verifying. Default:
    10, or fewer (at least 2) in short runs on slow environments (milliseconds per step)."""

    verification_episodes: int | None = None
    """Fresh episodes (with new seeds) per verification; their mean is the reported score. Default:
    100, or fewer (at least 3) in short runs on slow environments (milliseconds per step)."""

    evaluation_copies: int | None = None
    """Maximum number of environment copies open in an evaluation, in the worker processes if there
    are any. Fewer are opened if creating one is slow. Scores do not depend on this number.
    Default: 8, or 32 if training uses a compiled twin, whose Gymnasium environment is light."""

    evaluation_step_limit: int | None = None
    """Evaluation episodes are cut after this many steps, and counted as cut. Default: 10,000; if
    the environment has no time limit, four times the longest of the last 100 training episodes, but
    at least 1,000 and at most 10,000."""

    worker_timeout: float = 300.0
    """Seconds without an update after which a worker counts as hung."""

    max_restarts: int = 3
    """How often workers that died or hung are restarted, in total (processes only)."""

    restart_on_error: bool = False
    """Also restart a worker whose environment raised an exception (processes only)."""

    max_bad_gradients: int = 10
    """The run ends after more than this many gradients with NaN or infinity. Such gradients are
    never applied."""

    checkpoint_every: str = "30s"
    """Time between two checkpoints in seconds (30s) or environment steps (100000steps). One is
    always written at the end."""

    keep_checkpoints: int = 3
    """Number of checkpoints to keep; older ones are removed."""

    record_every: int = 10
    """Number of updates between two update rows in metrics.jsonl."""

    def __post_init__(self) -> None:
        values = validated(vars(self), _types())
        for name, value in values.items():
            object.__setattr__(self, name, value)
        if self.max_steps is None and self.max_episodes is None and self.max_seconds is None:
            object.__setattr__(self, "max_steps", DEFAULT_MAX_STEPS)
        if self.learning_rate_schedule == "linear" and self.max_steps is None:
            raise ConfigError(
                "learning_rate_schedule is linear, which anneals to 0 at max_steps: "
                "give max_steps too"
            )
        for name in self.annealed_settings:
            if self.annealing_steps is None and self.max_steps is None:
                raise ConfigError(
                    f"{name} is linear, which anneals to 0 over annealing_steps: give them, or "
                    "max_steps"
                )

        batch = self.rollout_length * self.envs_per_worker * self.workers
        if self.algorithm == "one_step_sarsa" and self.rollout_length < 2:
            raise ConfigError(
                "rollout_length is 1, but one_step_sarsa learns from a step and the action after "
                "it: make it at least 2"
            )
        if self.algorithm in ("ppo", "appo") and batch % self.minibatches:
            raise ConfigError(
                f"minibatches is {self.minibatches}, but must divide the {batch} steps of a batch: "
                f"rollout_length {self.rollout_length} x envs_per_worker {self.envs_per_worker} x "
                f"workers {self.workers}"
            )

    @property
    def annealed_settings(self) -> list[str]:
        """The schedules of the algorithm's own settings that are linear."""
        of_algorithm = {
            "entropy_schedule": self.algorithm in ("a3c", "a2c", "ppo", "impala", "appo"),
            "clip_range_schedule": self.algorithm in ("ppo", "appo"),
        }
        return [
            name for name, has in of_algorithm.items() if has and getattr(self, name) == "linear"
        ]

    @property
    def checkpoint_seconds(self) -> float | None:
        """Seconds between two checkpoints; None if the interval is in steps."""
        number, unit = checkpoint_interval(self.checkpoint_every) or (0.0, "")
        return number if unit == "s" else None

    @property
    def checkpoint_steps(self) -> int | None:
        """Environment steps between two checkpoints; None if the interval is in seconds."""
        number, unit = checkpoint_interval(self.checkpoint_every) or (0.0, "")
        return int(number) if unit == "steps" else None

    @property
    def environment_choice(self) -> EnvironmentChoice:
        """The environment and its configuration."""
        return EnvironmentChoice(
            self.environment,
            self.env_kwargs,
            self.wrappers,
            self.sticky_actions,
            self.ignore_observations,
        )

    @property
    def longest_evaluation_episode(self) -> int:
        """Upper limit on the steps of any evaluation episode."""
        return self.evaluation_step_limit or STEP_LIMIT

    @property
    def most_evaluation_copies(self) -> int:
        """Maximum number of copies open in an evaluation, if they may be of any environment."""
        return self.evaluation_copies or EVALUATION_COPIES


@functools.cache  # reading them takes a millisecond
def _types() -> dict[str, Any]:
    return typing.get_type_hints(TrainConfig)


know(_types())
