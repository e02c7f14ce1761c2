"""Compiled twins: Gymnasium's classic-control environments written in JAX, one copy each.

Their interface is Gymnasium's `FuncEnv`; every step is held against Gymnasium's own in
``tests/world/twins``.
"""

from poise.world.twins.acrobot import Acrobot
from poise.world.twins.cartpole import CartPole
from poise.world.twins.mountain_car import MountainCar
from poise.world.twins.mountain_car_continuous import MountainCarContinuous
from poise.world.twins.pendulum import Pendulum

__all__ = ["Acrobot", "CartPole", "MountainCar", "MountainCarContinuous", "Pendulum"]
