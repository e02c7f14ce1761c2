"""Training steps per second of Stable-Baselines3's A2C on any environment, as JSON.

Settings: SB3's defaults (5 steps a rollout, RMSProp), the given number of environments in a
`DummyVecEnv`. Atari gets SB3's own preprocessing, made equal to poise's (full games, rewards not
clipped), and the A3C paper's network. The clock starts after the first updates.

Run it with the peers' Python (`benchmarks/make_peers_environment.sh`).
"""

import argparse
import json
import time

import gymnasium
import torch
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecFrameStack

WARM_UP_ROLLOUTS = 20


class PaperNetwork(BaseFeaturesExtractor):
    """The A3C paper's convolutional network (Mnih et al. 2016, section 5.1)."""

    def __init__(self, observation_space):
        super().__init__(observation_space, 256)
        frames = observation_space.shape[0]
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(frames, 16, 8, 4),
            torch.nn.ReLU(),
            torch.nn.Conv2d(16, 32, 4, 2),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(32 * 9 * 9, 256),
            torch.nn.ReLU(),
        )

    def forward(self, observations):
        """Return the features."""
        return self.layers(observations)


class Clock(BaseCallback):
    """Counts the steps from the first updates on, and ends the training in time."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
        self.rollouts = 0
        self.begin = None
        self.end = None

    def _on_rollout_start(self):
        self.rollouts += 1
        if self.rollouts == WARM_UP_ROLLOUTS:
            self.begin = time.perf_counter(), self.num_timesteps

    def _on_step(self):
        now = time.perf_counter()
        if self.begin is not None and now - self.begin[0] > self.seconds:
            self.end = now, self.num_timesteps
            return False
        return True

    @property
    def rate(self):
        """Steps per second."""
        return (self.end[1] - self.begin[1]) / (self.end[0] - self.begin[0])


def model(environment, copies):
    """Return the model to train."""
    if environment.startswith("ALE/"):
        import ale_py  # only Atari needs it  # noqa: PLC0415

        gymnasium.register_envs(ale_py)
        made = make_atari_env(
            environment,
            n_envs=copies,
            seed=0,
            env_kwargs={"repeat_action_probability": 0.0, "frameskip": 1},
            wrapper_kwargs={"terminal_on_life_loss": False, "clip_reward": False},
        )
        network = {
            "features_extractor_class": PaperNetwork,
            "net_arch": [],
            "share_features_extractor": True,
        }
        return A2C("CnnPolicy", VecFrameStack(made, 4), policy_kwargs=network, seed=0)
    return A2C("MlpPolicy", make_vec_env(environment, n_envs=copies, seed=0), seed=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("environment")
    parser.add_argument("--copies", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=8.0)
    arguments = parser.parse_args()
    clock = Clock(arguments.seconds)
    model(arguments.environment, arguments.copies).learn(10**9, callback=clock)
    print(json.dumps({"steps_per_second": clock.rate}))


if __name__ == "__main__":
    main()
