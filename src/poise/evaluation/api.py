"""Public functions that score a policy or a run, and random actions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from poise.agent.policy import Policy
from poise.config import EVALUATION_COPIES, STEP_LIMIT, EnvironmentChoice, TrainConfig
from poise.envs.checked_env import forget_closing
from poise.envs.env_factory import EnvFactory, find_env_factory
from poise.envs.env_lookup import import_path
from poise.envs.preflight import check_environment
from poise.envs.registry import env_backend
from poise.envs.seeding import Purpose, environment_seed, seed_sequence
from poise.errors import ConfigError, InputError
from poise.evaluation.environment_loading import maker
from poise.evaluation.episodes import EpisodePlayer
from poise.launchers.stop_signals import handlers_kept
from poise.learning.evaluation_result import Score
from poise.settings import known_arguments
from poise.storage.run_folder import Which, policy_of
from poise.storage.trust import EnvironmentFactory, env_factory_from_file
from poise.validation import MAX_ENVS_PER_WORKER, MAX_EPISODES, shown

__all__ = ["copies_share_state", "evaluate", "random_baseline"]


@known_arguments
@handlers_kept()
def evaluate(
    policy: Policy | str | Path,
    *,
    episodes: int = 100,
    greedy: bool | None = None,
    seed: int = 0,
    step_limit: int = STEP_LIMIT,
    copies: int = EVALUATION_COPIES,
    which: Which = "best",
    environment: EnvironmentFactory | None = None,
    trust: bool = False,
) -> Score:
    """Score a policy on Gymnasium's own environment.

    Args:
        policy: a policy, or the path of a run's folder or of a policy file.
        episodes: number of episodes, each with its own seed.
        greedy: take the most probable action (True) or sample (False); by default as the policy's
            run was set to score it (``policy.mode``).
        seed: root of the seeds of the episodes and of the sampling.
        step_limit: an episode is cut after this many steps, and counted as cut.
        copies: maximum number of environment copies open at a time; it does not change the score.
            If copies share state, only one is used.
        which: if ``policy`` is a run's folder: the ``best`` or the ``final`` policy.
        environment: makes the environment, instead of the one that the policy's file names.
        trust: import the environment and the network that the policy's file names by import paths.

    Raises:
        InputError: there is no such policy, or a number is out of range.
    """
    _check(episodes, seed, step_limit)
    if not 1 <= copies <= MAX_ENVS_PER_WORKER:
        raise ConfigError(
            f"--copies is {shown(copies)}, but must be 1 or more, and at most "
            f"{MAX_ENVS_PER_WORKER:,}"
        )
    policy = policy_of(policy, which, trust)
    forget_closing()
    env_factory = env_factory_from_file(policy.environment, environment, trust)
    player = EpisodePlayer(
        maker(policy, env_factory),
        step_limit,
        copies=copies,
        alone=lambda: copies_share_state(env_factory),
    )
    seeds = _seeds(seed, Purpose.EVALUATION, episodes)
    greedy = policy.mode == "greedy" if greedy is None else greedy
    sampling = None if greedy else seed_sequence(seed, Purpose.EVALUATION_ACTIONS)
    try:
        return player.play(policy, seeds, sampling)
    finally:
        player.close()


@known_arguments
@handlers_kept()
def random_baseline(
    environment: str | EnvironmentFactory | EnvironmentChoice | EnvFactory,
    *,
    env_kwargs: Mapping[str, Any] | Sequence[str] = (),
    wrappers: Sequence[str] = (),
    episodes: int = 100,
    seed: int = 0,
    step_limit: int = STEP_LIMIT,
    step_budget: int | None = None,
    alive: Callable[[], None] = lambda: None,
    player: EpisodePlayer | None = None,
) -> Score:
    """Score uniformly random actions on Gymnasium's own environment.

    Args:
        environment: Gymnasium id, import path ``module:attribute``, a choice with arguments and
            wrappers, or a callable.
        env_kwargs: arguments of its constructor, unless ``environment`` is a choice.
        wrappers: import paths of its wrappers, as in `TrainConfig`.
        episodes: number of episodes, each with its own seed.
        seed: root of the episodes' seeds.
        step_limit: an episode is cut after this many steps, and counted as cut.
        step_budget: no new episode begins after this many steps in total.
        alive: called between steps; may raise to abort.
        player: plays the episodes in its own copies, which stay open; by default a new one.

    Raises:
        InputError: there is no such environment, or a number is out of range.
        EnvironmentFailureError: the environment raised, or broke its contract.
    """
    _check(episodes, seed, step_limit)
    seeds = _seeds(seed, Purpose.RANDOM, episodes)
    if isinstance(environment, EnvFactory):
        env_factory = environment
    elif isinstance(environment, EnvironmentChoice):
        env_factory = find_env_factory(environment)
    else:
        factory = None if isinstance(environment, str) else environment
        name = environment if isinstance(environment, str) else import_path(environment)
        # Validate them like the settings of a run.
        config = TrainConfig(name, env_kwargs=env_kwargs, wrappers=wrappers)  # type: ignore[arg-type]
        env_factory = find_env_factory(config.environment_choice, factory)
    if player is not None:
        return player.play_at_random(seeds, step_budget)
    forget_closing()
    player = EpisodePlayer(env_factory.make, step_limit, alive)
    try:
        return player.play_at_random(seeds, step_budget)
    finally:
        player.close()


def copies_share_state(env_factory: EnvFactory) -> bool:
    """Whether stepping one copy of an environment changes another; False if that is unknown.

    If the check fails for another reason, the episodes themselves will report it.
    """
    try:
        if env_backend(env_factory, "auto") == "compiled":
            return False
        return check_environment(env_factory, TrainConfig.worker_timeout).shares_state
    except InputError:
        return False


def _seeds(root: int, purpose: Purpose, count: int) -> list[int]:
    return [environment_seed(seed_sequence(root, purpose, number)) for number in range(count)]


def _check(episodes: int, seed: int, step_limit: int) -> None:
    if not 1 <= episodes <= MAX_EPISODES:
        raise ConfigError(
            f"--episodes is {shown(episodes)}, but must be 1 or more, and at most {MAX_EPISODES:,}"
        )
    if step_limit < 1:
        raise ConfigError(f"--step-limit is {step_limit}, but must be 1 or more")
    if not 0 <= seed < 2**63:
        raise ConfigError(f"--seed is {seed}, but must be from 0 to 2**63 - 1")
