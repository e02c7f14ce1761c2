"""The trained policy: what acts, evaluates and plays, without any training machinery."""

from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from poise.agent.acting import Actor, choose_acting, make_actor
from poise.agent.agent import Agent, NetworkSpec, build_agent
from poise.agent.network import NetworkFactory
from poise.agent.noise import draw_with_generator
from poise.agent.observed import observed
from poise.batching import as_typed, stack, unbatch
from poise.config import EnvironmentChoice
from poise.ignored_parts import has_form, leave_out
from poise.trajectory import ActorOutput

__all__ = ["ROWS", "Mode", "Player", "Policy"]

Mode = Literal["greedy", "sampled"]
"""The most probable action, or one drawn from the distribution."""

ROWS = 8
"""Observations that an evaluation always decides on together; filled up where there are fewer."""


class Policy:
    """A network with its parameters, acting on Gymnasium observations.

    Args:
        agent: how to act, given parameters.
        parameters: ``[P]`` float32.
        environment: what it was trained on.
        statistics: the observation normaliser's mean and scale, ``()`` without one.
        actor: reused from another policy of the same agent, so that nothing compiles anew.
        mode: how actions are chosen where nothing else is said: as the policy was scored.
    """

    def __init__(
        self,
        agent: Agent,
        parameters: np.ndarray,
        environment: EnvironmentChoice,
        statistics: Any = (),
        actor: Actor | None = None,
        mode: Mode = "greedy",
    ) -> None:
        self.mode: Mode = mode
        self.agent = agent
        self.parameters = np.asarray(parameters, np.float32)
        self.environment = environment
        self.statistics = statistics
        self._generator = np.random.default_rng(0)
        self._actor = actor or make_actor(agent, choose_acting(agent, ROWS))

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """The space that observations must come from."""
        return self.agent.observation_space

    @property
    def action_space(self) -> spaces.Space[Any]:
        """The space that actions are in."""
        return self.agent.action_space

    def act(
        self,
        observation: Any,
        greedy: bool | None = None,
        generator: np.random.Generator | None = None,
        seed: int | None = None,
    ) -> Any:
        """Choose an action for an observation, or for each of a batch, as for an episode's first.

        For a policy with memory use `player`, which keeps its state between steps.

        Args:
            observation: as ``env.reset`` or ``env.step`` returned it; or a batch, in which every
                array has one more axis in front, ``[N, ...]``.
            greedy: take the most probable action, or sample one; by default as `mode` says.
            generator: source of randomness to sample with. By default one of the policy's own,
                which begins with seed 0 and goes on from call to call.
            seed: of a generator for this call, instead.

        Returns:
            An action for ``env.step``: for a Discrete space an int. For a batch, the batch of
            actions: an array ``[N, ...]``, or a tuple or dict of these, as the space is.

        Raises:
            ValueError: the observation is of another shape than the space, no numbers, or not
                finite; or there are a generator and a seed.
        """
        if generator is not None and seed is not None:
            raise ValueError("give a generator or a seed, not both")
        batch, count = self._observed(observation)
        noise = None
        if not self._is_greedy(greedy):
            chance = self._chance(generator, seed)
            noise = self.agent.head.noise(draw_with_generator(chance), (count or 1,))
        state = self.agent.initial_state(count or 1)
        decision = self.decide(batch, state, np.ones(count or 1, np.bool_), noise)
        if count is None:
            return unbatch(decision.environment_action, self.action_space, 0)
        return as_typed(decision.environment_action, self.action_space)

    def value(self, observation: Any) -> Any:
        """The critic's estimate of the discounted return from an observation.

        Args:
            observation: one, or a batch, as for `act`.

        Returns:
            A float; for a batch, an array ``[N]``.

        Raises:
            ValueError: as `act`.
        """
        batch, count = self._observed(observation)
        first = np.ones(count or 1, np.bool_)
        values = np.asarray(self.agent.values(self.parameters, self.statistics, batch, first))
        return float(values[0]) if count is None else values

    def player(
        self,
        greedy: bool | None = None,
        generator: np.random.Generator | None = None,
        seed: int | None = None,
    ) -> "Player":
        """A player: the policy with what it remembers of the episode that it is in.

        Args:
            greedy: as for `act`.
            generator: as for `act`.
            seed: as for `act`.
        """
        greedy = self._is_greedy(greedy)
        return Player(self, greedy, None if greedy else self._chance(generator, seed))

    def __repr__(self) -> str:
        return (
            f"Policy({self.environment.name}, {self.parameters.size:,} parameters, "
            f"{self.observation_space} -> {self.action_space}, {self.mode})"
        )

    def __reduce__(self) -> Any:
        """For pickle, copy and process pools: what rebuilds the policy, without its programs."""
        agent = self.agent
        spaces_of = agent.observation_space, agent.action_space
        return _rebuild, (
            *spaces_of,
            agent.spec,
            self.parameters,
            self.environment,
            self.statistics,
            self.mode,
            agent.network_factory,
        )

    def _is_greedy(self, greedy: bool | None) -> bool:
        return self.mode == "greedy" if greedy is None else greedy

    def _chance(self, generator: np.random.Generator | None, seed: int | None) -> Any:
        if generator is not None:
            return generator
        return self._generator if seed is None else np.random.default_rng(seed)

    def _observed(self, observation: Any) -> tuple[Any, int | None]:
        """A batch of what was observed, and how many there were; None for a single observation."""
        ignored = self.environment.ignore_observations
        if ignored:
            observation = self._without(observation, ignored)
        return observed(self.observation_space, observation)

    def decide(self, observations: Any, state: Any, first: Any, noise: Any | None) -> ActorOutput:
        """Act on a batch of observations ``[N, ...]``; without noise, greedily."""
        return self._actor(self.parameters, self.statistics, observations, state, first, noise)

    def batch(self, observations: list[Any]) -> Any:
        """Stack unbatched observations to a pytree of ``[N, ...]``."""
        ignored = self.environment.ignore_observations
        if ignored:
            observations = [self._without(one, ignored) for one in observations]
        return stack(self.agent.observation_space, observations)

    def _without(self, observation: Any, ignored: tuple[str, ...]) -> Any:
        """An observation as the network knows it, of one from the environment itself too."""
        space = self.agent.observation_space
        return observation if has_form(space, observation) else leave_out(observation, ignored)


def _rebuild(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    spec: NetworkSpec,
    parameters: np.ndarray,
    environment: EnvironmentChoice,
    statistics: Any,
    mode: Mode,
    network_factory: NetworkFactory | None,
) -> Policy:
    agent, _ = build_agent(
        observation_space, action_space, spec, None, network_factory=network_factory
    )
    return Policy(agent, parameters, environment, statistics, mode=mode)


class Player:
    """A policy inside an episode: call `reset` when one begins, then `act` for every step."""

    def __init__(
        self, policy: Policy, greedy: bool = True, generator: np.random.Generator | None = None
    ) -> None:
        self._policy = policy
        self._generator = None if greedy else generator or np.random.default_rng(0)
        self.reset()

    def reset(self) -> None:
        """Forget the last episode."""
        self._state = self._policy.agent.initial_state(1)
        self._first = np.ones(1, np.bool_)

    def act(self, observation: Any) -> Any:
        """Choose an action for one unbatched observation and remember what is needed of it."""
        policy, generator = self._policy, self._generator
        noise = None
        if generator is not None:
            noise = policy.agent.head.noise(draw_with_generator(generator), (1,))
        decision = policy.decide(policy.batch([observation]), self._state, self._first, noise)
        self._state, self._first = decision.state, np.zeros(1, np.bool_)
        return unbatch(decision.environment_action, policy.action_space, 0)
