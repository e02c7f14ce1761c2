"""Which of EnvPool's environments may replace Gymnasium's own in training.

An environment is admitted by ``benchmarks/envpool_admission.py``, which holds it against
Gymnasium's own; its evidence is in ``benchmarks/results/envpool.json``.
"""

from poise.envs.env_factory import EnvFactory
from poise.envs.envpool_vector import has_envpool
from poise.errors import ConfigError, MissingExtraError

__all__ = ["ADMITTED", "REFUSED", "envpool_serves", "require_envpool"]

ADMITTED = (
    "Ant-v5",
    "BipedalWalker-v3",
    "BipedalWalkerHardcore-v3",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "InvertedDoublePendulum-v5",
    "InvertedPendulum-v5",
    "LunarLander-v3",
    "LunarLanderContinuous-v3",
    "Pusher-v5",
    "Reacher-v5",
    "Swimmer-v5",
    "Walker2d-v5",
)
"""Environments that agree with Gymnasium's own."""

REFUSED = {
    "Blackjack-v1": "EnvPool's observes an array, not a tuple",
    "CarRacing-v3": "EnvPool draws the images in other colours",
}
"""Environments that EnvPool has under the same id but that do not agree, and why."""


def envpool_serves(env_factory: EnvFactory) -> bool:
    """Return whether EnvPool is installed and may replace the environment as configured."""
    return env_factory.is_plain and env_factory.identity in ADMITTED and has_envpool()


def require_envpool(env_factory: EnvFactory) -> None:
    """Check that EnvPool may replace the environment as configured, and is installed.

    Raises:
        ConfigError: it may not; the message says why.
        MissingExtraError: it may, but is not installed.
    """
    name = env_factory.identity
    if name not in ADMITTED:
        why = REFUSED.get(name, "EnvPool's has not been compared with Gymnasium's own")
        if env_factory.is_atari:
            why = "ale-py's own vector environment steps it (--world xla or atari)"
        raise ConfigError(f"--world envpool is not available for {env_factory.name}: {why}")
    if not env_factory.is_plain:
        raise ConfigError(
            f"--world envpool steps {env_factory.name} with default arguments, without wrappers "
            "and with complete observations only"
        )
    if not has_envpool():
        raise MissingExtraError(
            f"--world envpool steps {env_factory.name} with EnvPool: pip install 'poise[envpool]'"
        )
