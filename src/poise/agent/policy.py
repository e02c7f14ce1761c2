"""The trained policy: acts, is evaluated and plays, without any training machinery."""

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

__all__ = ["Mode", "Player", "Policy", "evaluation_actor"]

Mode = Literal["greedy", "sampled"]
"""How actions are chosen: the most probable one, or one drawn from the distribution."""

FEW_ROWS, MANY_ROWS = 8, 32
"""Batch sizes of an evaluation's calls to the network; smaller batches are padded to them. Many
rows take no longer than few if the network is so small that NumPy runs it."""


def evaluation_rows(agent: Agent) -> int:
    """Return the batch size of an evaluation's calls to the network.

    It depends only on the agent: the size of a batch may change how a row's result is rounded, and
    a score must not depend on the number of environment copies.
    """
    return MANY_ROWS if choose_acting(agent, MANY_ROWS) == "numpy" else FEW_ROWS


def evaluation_actor(agent: Agent) -> Actor:
    """Make the actor of an evaluation."""
    return make_actor(agent, choose_acting(agent, evaluation_rows(agent)))


class Policy:
    """A network with its parameters, acting on Gymnasium observations.

    Args:
        agent: the network and action head.
        parameters: ``[P]`` float32.
        environment: the environment that it was trained on.
        statistics: the observation normaliser's mean and scale; ``()`` without a normaliser.
        actor: actor of another policy of the same agent, reused to avoid compiling it again.
        mode: how actions are chosen by default: the mode in which the policy was scored.
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
        self.rows = evaluation_rows(agent)
        """Batch size of the calls to the network in an evaluation."""
        self._actor = actor or evaluation_actor(agent)

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """The space of observations."""
        return self.agent.observation_space

    @property
    def action_space(self) -> spaces.Space[Any]:
        """The space of actions."""
        return self.agent.action_space

    def act(
        self,
        observation: Any,
        greedy: bool | None = None,
        generator: np.random.Generator | None = None,
        seed: int | None = None,
    ) -> Any:
        """Choose an action for an observation, or for each observation of a batch.

        Every observation is treated as the first of an episode. For a policy with memory use
        `player`, which keeps the state between steps.

        Args:
            observation: an observation, as returned by ``env.reset`` or ``env.step``; or a batch,
                in which every array has one more axis in front, ``[N, ...]``.
            greedy: whether to take the most probable action or to sample one; default: `mode`.
            generator: source of randomness for sampling. By default the policy's own generator,
                which starts from seed 0 and continues from call to call.
            seed: seed of a new generator for this call, in place of ``generator``.

        Returns:
            An action for ``env.step``: for a Discrete space an int. For a batch, the batch of
            actions: an array ``[N, ...]``, or a tuple or dict of these, depending on the space.

        Raises:
            ValueError: the observation does not fit the space's shape, or its values are not
                numbers or not finite; or both a generator and a seed are given.
        """
        if generator is not None and seed is not None:
            raise ValueError("give a generator or a seed, not both")
        batch, count = self._observed(observation)
        noise = None
        if not self._is_greedy(greedy):
            generator = self._choose_generator(generator, seed)
            noise = self.agent.head.noise(draw_with_generator(generator), (count or 1,))
        state = self.agent.initial_state(count or 1)
        decision = self.decide(batch, state, np.ones(count or 1, np.bool_), noise)
        if count is None:
            return unbatch(decision.environment_action, self.action_space, 0)
        return as_typed(decision.environment_action, self.action_space)

    def value(self, observation: Any) -> Any:
        """Estimate the discounted return from an observation, with the critic.

        Args:
            observation: an observation or a batch, as for `act`.

        Returns:
            A float; for a batch, an array ``[N]``.

        Raises:
            ValueError: the observation does not fit the space, as for `act`.
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
        """Return a player: the policy together with its recurrent state within an episode.

        Args:
            greedy: as for `act`.
            generator: as for `act`.
            seed: as for `act`.
        """
        greedy = self._is_greedy(greedy)
        return Player(self, greedy, None if greedy else self._choose_generator(generator, seed))

    def __repr__(self) -> str:
        return (
            f"Policy({self.environment.name}, {self.parameters.size:,} parameters, "
            f"{self.observation_space} -> {self.action_space}, {self.mode})"
        )

    def __reduce__(self) -> Any:
        """Support pickle, copy and process pools; compiled programs are left out."""
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

    def _choose_generator(self, generator: np.random.Generator | None, seed: int | None) -> Any:
        if generator is not None:
            return generator
        return self._generator if seed is None else np.random.default_rng(seed)

    def _observed(self, observation: Any) -> tuple[Any, int | None]:
        """Return the observations as a batch, and their number; None for a single observation."""
        ignored = self.environment.ignore_observations
        if ignored:
            observation = self._without(observation, ignored)
        return observed(self.observation_space, observation)

    def decide(self, observations: Any, state: Any, first: Any, noise: Any | None) -> ActorOutput:
        """Act on a batch of observations ``[N, ...]``; without noise, act greedily."""
        return self._actor(self.parameters, self.statistics, observations, state, first, noise)

    def batch(self, observations: list[Any]) -> Any:
        """Stack single observations into a pytree of arrays ``[N, ...]``."""
        ignored = self.environment.ignore_observations
        if ignored:
            observations = [self._without(one, ignored) for one in observations]
        return stack(self.agent.observation_space, observations)

    def _without(self, observation: Any, ignored: tuple[str, ...]) -> Any:
        """Remove the ignored parts, if the observation still has them."""
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
    """A policy playing an episode: call `reset` when an episode begins, then `act` at each step."""

    def __init__(
        self, policy: Policy, greedy: bool = True, generator: np.random.Generator | None = None
    ) -> None:
        self._policy = policy
        self._generator = None if greedy else generator or np.random.default_rng(0)
        self.reset()

    def reset(self) -> None:
        """Forget the previous episode."""
        self._state = self._policy.agent.initial_state(1)
        self._first = np.ones(1, np.bool_)

    def act(self, observation: Any) -> Any:
        """Choose an action for one observation and update the recurrent state."""
        policy, generator = self._policy, self._generator
        noise = None
        if generator is not None:
            noise = policy.agent.head.noise(draw_with_generator(generator), (1,))
        decision = policy.decide(policy.batch([observation]), self._state, self._first, noise)
        self._state, self._first = decision.state, np.zeros(1, np.bool_)
        return unbatch(decision.environment_action, policy.action_space, 0)
