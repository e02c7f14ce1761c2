"""Episodes in EnvPool's and Gymnasium's environments, with the same policies."""

from collections.abc import Callable
from typing import Any, NamedTuple

import envpool
import gymnasium
import numpy as np

BOX2D = [
    "BipedalWalker-v3",
    "BipedalWalkerHardcore-v3",
    "CarRacing-v3",
    "LunarLander-v3",
    "LunarLanderContinuous-v3",
]
MOMENTS = (0, 10, 50)
"""Steps after which the numbers of the observations are compared."""


class Played(NamedTuple):
    """First episodes, one a seed."""

    returns: np.ndarray
    lengths: np.ndarray
    seen: dict[int, np.ndarray]
    """By step: observations of the episodes that last as long, ``[episodes, numbers]``."""


Policy = Callable[[np.ndarray], Any]


def policies(name: str, environment: Any) -> dict[str, Callable[[int], Policy]]:
    """Return makers of a policy for one episode, by the policy's name; given a seed."""
    space = environment.action_space
    zero = np.zeros(space.shape, space.dtype) if space.shape else 0

    def random(seed: int) -> Policy:
        generator = np.random.default_rng(seed)
        if not space.shape:
            return lambda seen: int(generator.integers(space.n))
        return lambda seen: generator.uniform(space.low, space.high).astype(space.dtype)

    found: dict[str, Callable[[int], Policy]] = {"zeros": lambda seed: lambda seen: zero}
    found["random"] = random
    if name.startswith("LunarLander"):
        from gymnasium.envs.box2d.lunar_lander import heuristic  # noqa: PLC0415

        found["heuristic"] = lambda seed: lambda seen: heuristic(environment, seen)
    if name.startswith("Bipedal"):
        from gymnasium.envs.box2d.bipedal_walker import BipedalWalkerHeuristics  # noqa: PLC0415

        def walk(seed: int) -> Policy:
            walker = BipedalWalkerHeuristics()
            walker.a = np.zeros(4)
            return lambda seen: np.asarray(walker.step_heuristic(seen), np.float32)

        found["heuristic"] = walk
    return found


def play_gymnasium(name: str, policy: Callable[[int], Policy], episodes: int) -> Played:
    """Play episodes in Gymnasium's environment, one after the other.

    In Box2D each has a new copy: a BipedalWalker keeps its world, so that its episodes depend on
    the earlier ones by more than EnvPool's differ from the first.
    """
    environment = gymnasium.make(name)
    returns, lengths = np.zeros(episodes), np.zeros(episodes, int)
    seen: dict[int, list[np.ndarray]] = {moment: [] for moment in MOMENTS}
    for episode in range(episodes):
        act = policy(episode + 10**6)
        if name in BOX2D:
            environment.close()
            environment = gymnasium.make(name)
        observation, _ = environment.reset(seed=episode)
        over = False
        while not over:
            if lengths[episode] in seen:
                seen[int(lengths[episode])].append(np.ravel(observation))
            observation, reward, ended, cut, _ = environment.step(act(observation))
            over = ended or cut
            returns[episode] += reward
            lengths[episode] += 1
    environment.close()
    return Played(returns, lengths, stacked(seen))


def play_envpool(name: str, policy: Callable[[int], Policy], episodes: int) -> Played:
    """Play the first episode of as many copies in EnvPool."""
    pool = make_pool(name, list(range(episodes)))
    observations, _ = pool.reset()
    acts = [policy(episode) for episode in range(episodes)]
    returns, lengths = np.zeros(episodes), np.zeros(episodes, int)
    playing = np.ones(episodes, bool)
    seen: dict[int, list[np.ndarray]] = {moment: [] for moment in MOMENTS}
    step = 0
    while playing.any():
        if step in seen:
            seen[step] += [np.ravel(one) for one in observations[playing]]
        actions = np.stack([act(one) for act, one in zip(acts, observations, strict=True)])
        observations, rewards, ended, cut, _ = pool.step(actions)
        returns += np.where(playing, rewards, 0)
        lengths += playing
        playing &= ~(ended | cut)
        step += 1
    return Played(returns, lengths, stacked(seen))


def stacked(seen: dict[int, list[np.ndarray]]) -> dict[int, np.ndarray]:
    """Return the observations by step, without steps that no episode reached."""
    return {moment: np.stack(rows) for moment, rows in seen.items() if rows}


def make_pool(name: str, seeds: list[int]) -> Any:
    """Make a pool with a copy for each seed, and Gymnasium's time limit."""
    limit = gymnasium.spec(name).max_episode_steps
    return envpool.make_gymnasium(
        name, num_envs=len(seeds), num_threads=1, seed=seeds, max_episode_steps=limit or 2**31 - 1
    )
