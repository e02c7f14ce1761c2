"""The trained policy: what acts, evaluates and plays, without any training machinery."""

from typing import Any

import numpy as np
from gymnasium import spaces

from poise.agent.acting import Actor, choose_acting, make_actor
from poise.agent.agent import Agent
from poise.agent.noise import draw_with_generator
from poise.batches import stack, unbatch
from poise.config import EnvironmentChoice
from poise.ignoring import has_form, leave_out
from poise.trajectory import Decision

__all__ = ["ROWS", "Player", "Policy"]

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
    """

    def __init__(
        self,
        agent: Agent,
        parameters: np.ndarray,
        environment: EnvironmentChoice,
        statistics: Any = (),
        actor: Actor | None = None,
    ) -> None:
        self.agent = agent
        self.parameters = np.asarray(parameters, np.float32)
        self.environment = environment
        self.statistics = statistics
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
        greedy: bool = True,
        generator: np.random.Generator | None = None,
    ) -> Any:
        """Choose an action for one unbatched observation, as for the first of an episode.

        For a policy with memory use `player`, which keeps its state between steps.

        Args:
            observation: as ``env.reset`` or ``env.step`` returned it.
            greedy: take the most probable action; otherwise sample one.
            generator: source of randomness, required to sample.

        Returns:
            An action for ``env.step``.

        Raises:
            ValueError: to sample, but without a generator.
        """
        return self.player(greedy, generator).act(observation)

    def value(self, observation: Any) -> float:
        """The critic's estimate of the discounted return from one unbatched observation."""
        batch, first = self.batch([observation]), np.ones(1, np.bool_)
        return float(self.agent.values(self.parameters, self.statistics, batch, first)[0])

    def player(self, greedy: bool = True, generator: np.random.Generator | None = None) -> "Player":
        """A player: the policy with what it remembers of the episode that it is in.

        Raises:
            ValueError: to sample (not greedy), but without a generator.
        """
        return Player(self, greedy, generator)

    def decide(self, observations: Any, state: Any, first: Any, noise: Any | None) -> Decision:
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


class Player:
    """A policy inside an episode: call `reset` when one begins, then `act` for every step."""

    def __init__(
        self, policy: Policy, greedy: bool = True, generator: np.random.Generator | None = None
    ) -> None:
        if not greedy and generator is None:
            raise ValueError("sampling needs a generator, for example numpy.random.default_rng(0)")
        self._policy = policy
        self._generator = None if greedy else generator
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
