"""An artificial rollout with all kinds of steps, and agents that fit it."""

import functools

import numpy as np
from gymnasium import spaces

from poise.agent.agent import Agent, NetworkSpec, build_agent
from poise.trajectory import Trajectory

LENGTH, COPIES, INPUTS = 7, 2, 3
OBSERVATIONS = spaces.Box(-1.0, 1.0, (INPUTS,))
ACTIONS = {"discrete": spaces.Discrete(3), "continuous": spaces.Box(-1.0, 1.0, (2,))}

# Copy 0 terminates at step 2; copy 1 is truncated at step 3, and terminated and truncated at 6.
TERMINATED, TRUNCATED, VALID = np.zeros((3, LENGTH, COPIES), np.bool_)
TERMINATED[2, 0] = TERMINATED[6, 1] = TRUNCATED[3, 1] = TRUNCATED[6, 1] = True
VALID[:] = True
VALID[3, 0] = VALID[4, 1] = False


def trajectory(agent: Agent, seed: int = 0) -> Trajectory:
    generator = np.random.default_rng(seed)
    steps = (LENGTH, COPIES)
    if isinstance(agent.action_space, spaces.Discrete):
        actions: np.ndarray = generator.integers(0, 3, steps).astype(np.int32)
    else:
        actions = generator.normal(size=(*steps, 2)).astype(np.float32)
    first = np.zeros((LENGTH + 1, COPIES), np.bool_)
    first[0, 0] = True
    first[1:] = ~VALID
    inputs = agent.observation_space.shape or ()
    return Trajectory(
        observations=generator.normal(size=(LENGTH + 1, COPIES, *inputs)).astype(np.float32),
        actions=actions,
        rewards=np.where(VALID, generator.normal(size=steps), 0.0).astype(np.float32),
        terminated=TERMINATED,
        truncated=TRUNCATED,
        valid=VALID,
        first=first,
        initial_state=agent.initial_state(COPIES),
        behaviour_log_probabilities=np.zeros(steps, np.float32),
        version=np.int32(0),
    )


@functools.cache
def make(actions: str, hidden: tuple[int, ...]) -> tuple[Agent, np.ndarray]:
    agent, parameters = build_agent(OBSERVATIONS, ACTIONS[actions], NetworkSpec(hidden), None)
    drawn = np.random.default_rng(9).normal(0, 0.5, parameters.shape)
    return agent, drawn.astype(np.float32)
