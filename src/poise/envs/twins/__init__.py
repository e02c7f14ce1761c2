"""Compiled twins: Gymnasium's classic-control environments written in JAX, one copy each.

Their interface is Gymnasium's `FuncEnv`; ``tests/envs/twins`` compares every step with Gymnasium's
own environments.
"""

from poise.envs.twins.acrobot import Acrobot
from poise.envs.twins.cartpole import CartPole
from poise.envs.twins.mountain_car import MountainCar
from poise.envs.twins.mountain_car_continuous import MountainCarContinuous
from poise.envs.twins.pendulum import Pendulum

__all__ = ["Acrobot", "CartPole", "MountainCar", "MountainCarContinuous", "Pendulum"]
