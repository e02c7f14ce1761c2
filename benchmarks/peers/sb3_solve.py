"""One run of Stable-Baselines3, stopped by one of two solving rules, as JSON.

Hyper-parameters: rl-baselines3-zoo's (`hyperparams/a2c.yml`, `hyperparams/ppo.yml`), and as there
with as many environments in a `DummyVecEnv`, each in a `Monitor`. Torch keeps its own threads.

- greedy: at the first rollout boundary at or after every multiple of 4,096 environment steps
  (20,000 outside of CartPole) the greedy policy plays 100 fresh episodes of Gymnasium's
  environment; solved at the first mean that reaches the target. Outside of CartPole it first plays
  10 others, and the 100 unless those are below it by more than chance. The checks are not counted
  in the time.
- training: solved when the last 100 finished training episodes have a mean that reaches the target.
  There are no checks.

Run it with the peers' Python (`benchmarks/make_peers_environment.sh`). The clock stops at the
moment of solving, so that the peers pay neither for saving nor for leaving the interpreter.
"""
# ruff: noqa: E402 -- the clock is read before the slow imports

import time

_FIRST_LINE_AT = time.perf_counter()

import argparse
import collections
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

EPISODES = 100


class Task(NamedTuple):
    """An environment, the mean that solves it, and how often that is checked."""

    target: float
    steps_between_checks: int
    screening_episodes: int


class Tuned(NamedTuple):
    """rl-zoo's settings of an algorithm for an environment; the rest is SB3's default."""

    algorithm: type
    horizon: int
    """rl-zoo's n_timesteps."""
    copies: int
    """rl-zoo's n_envs."""
    settings: dict[str, Any]
    normalizes: bool = False
    """Whether observations and rewards are normalised (VecNormalize)."""


TASKS = {
    "CartPole-v1": Task(475.0, 4_096, 0),  # Gymnasium's reward threshold
    "LunarLander-v3": Task(200.0, 20_000, 10),  # Gymnasium's
    # The best that was published for A2C: Tianshou's.
    "HalfCheetah-v5": Task(3041.0, 20_000, 10),
}


def linear(initial):
    """Return rl-zoo's `lin_` schedule: `initial` times the remaining share of the horizon."""
    return lambda progress_remaining: progress_remaining * initial


TUNED = {
    ("CartPole-v1", "a2c"): Tuned(A2C, 500_000, 8, {"ent_coef": 0.0}),
    ("CartPole-v1", "ppo"): Tuned(
        PPO,
        100_000,
        8,
        {
            "n_steps": 32,
            "batch_size": 256,
            "gae_lambda": 0.8,
            "gamma": 0.98,
            "n_epochs": 20,
            "ent_coef": 0.0,
            "learning_rate": linear(0.001),
            "clip_range": linear(0.2),
        },
    ),
    ("LunarLander-v3", "a2c"): Tuned(
        A2C,
        200_000,
        8,
        {"gamma": 0.995, "n_steps": 5, "learning_rate": linear(0.00083), "ent_coef": 0.00001},
    ),
    ("LunarLander-v3", "ppo"): Tuned(
        PPO,
        1_000_000,
        16,
        {
            "n_steps": 1024,
            "batch_size": 64,
            "gae_lambda": 0.98,
            "gamma": 0.999,
            "n_epochs": 4,
            "ent_coef": 0.01,
        },
    ),
    ("HalfCheetah-v5", "ppo"): Tuned(
        PPO,
        1_000_000,
        1,
        {
            "n_steps": 512,
            "batch_size": 64,
            "gae_lambda": 0.92,
            "gamma": 0.98,
            "n_epochs": 20,
            "ent_coef": 0.000401762,
            "learning_rate": 2.0633e-05,
            "clip_range": 0.1,
            "max_grad_norm": 0.8,
            "vf_coef": 0.58096,
            "policy_kwargs": {
                "log_std_init": -2,
                "ortho_init": False,
                "activation_fn": torch.nn.ReLU,
                "net_arch": {"pi": [256, 256], "vf": [256, 256]},
            },
        },
        normalizes=True,
    ),
}


def process_started_at():
    """Return when this process started, on `time.perf_counter`'s scale."""
    stat = Path("/proc/self/stat")
    if not stat.exists():  # macOS: the interpreter's own start (tens of milliseconds) is left out
        return _FIRST_LINE_AT
    # proc_pid_stat(5): field 22, ticks after boot; the command's name may hold spaces, so cut it.
    ticks = int(stat.read_text().rpartition(")")[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.perf_counter() - age


def greedy_mean(model, environment, episodes, entropy):
    """Return the greedy policy's mean return and standard error, over one episode in each copy."""
    copies = [gymnasium.make(environment) for _ in range(episodes)]
    seeds = np.random.SeedSequence(entropy).generate_state(episodes)
    normalizer = model.get_vec_normalize_env()
    observations = np.stack(
        [copy.reset(seed=int(number))[0] for copy, number in zip(copies, seeds, strict=True)]
    )
    returns = np.zeros(episodes)
    running = list(range(episodes))
    while running:  # ends: these environments have time limits
        seen = observations[running]
        if normalizer is not None:
            seen = normalizer.normalize_obs(seen)
        actions, _ = model.predict(seen, deterministic=True)
        still_running = []
        for index, action in zip(running, actions, strict=True):
            observation, reward, terminated, truncated, _ = copies[index].step(action)
            observations[index] = observation
            returns[index] += reward
            if not (terminated or truncated):
                still_running.append(index)
        running = still_running
    for copy in copies:
        copy.close()
    return float(returns.mean()), float(returns.std(ddof=1) / episodes**0.5)


class SolvingRule(BaseCallback):
    """Stops learning when solved or out of steps, and keeps the clock."""

    def __init__(self, task, step_limit):
        super().__init__()
        self.task = task
        self.step_limit = step_limit
        self.solved = False
        self.mean = None
        self.checks = 0
        self.check_seconds = 0.0
        self.learn_started_at = None
        self.stopped_at = None
        self.stopped_at_steps = None

    def stop(self, solved):
        """Stop the clock, once."""
        if self.stopped_at is None:
            self.solved = solved
            self.stopped_at = time.perf_counter()
            self.stopped_at_steps = self.num_timesteps

    def _on_training_start(self):
        self.learn_started_at = time.perf_counter()

    def _on_step(self):
        if self.num_timesteps >= self.step_limit:
            self.stop(solved=False)
        return self.stopped_at is None

    def _on_training_end(self):
        self.stop(solved=False)


class GreedyRule(SolvingRule):
    """Solved when the greedy policy's mean over 100 fresh episodes reaches the target."""

    def __init__(self, task, step_limit, environment, seed):
        super().__init__(task, step_limit)
        self.environment = environment
        self.seed = seed
        self.next_check_at = task.steps_between_checks

    def check_if_due(self):
        """Check at the first boundary at or after each multiple, off the clock."""
        if self.stopped_at is not None or self.num_timesteps < self.next_check_at:
            return
        started_at = time.perf_counter()
        every = self.task.steps_between_checks
        self.next_check_at = (self.num_timesteps // every + 1) * every
        self.checks += 1
        solved = self.reaches_target()
        self.check_seconds += time.perf_counter() - started_at
        if solved:
            self.stop(solved=True)

    def reaches_target(self):
        """Play the screening episodes, if there are any, then the fresh ones that count."""
        for part, episodes in enumerate((self.task.screening_episodes, EPISODES)):
            if episodes:
                entropy = [
                    self.seed,
                    self.checks,
                    *([part] if self.task.screening_episodes else []),
                ]
                self.mean, error = greedy_mean(self.model, self.environment, episodes, entropy)
                is_screening = episodes != EPISODES
                if self.mean + (1.96 * error if is_screening else 0.0) < self.task.target:
                    return False
        return True

    # The start of a rollout, not its end: the policy has then been updated with the one before.
    def _on_rollout_start(self):
        self.check_if_due()

    def _on_training_end(self):
        self.check_if_due()
        super()._on_training_end()


class TrainingRule(SolvingRule):
    """Solved when the last 100 finished training episodes have a mean that reaches the target."""

    def __init__(self, task, step_limit):
        super().__init__(task, step_limit)
        self.returns = collections.deque(maxlen=EPISODES)

    def _on_step(self):
        for information in self.locals["infos"]:
            episode = information.get("episode")  # set by Monitor when an episode finishes
            if episode is not None:
                self.returns.append(episode["r"])
                self.mean = float(sum(self.returns) / len(self.returns))
                if len(self.returns) == EPISODES and self.mean >= self.task.target:
                    self.stop(solved=True)
        return super()._on_step()


def train(environment, algorithm, seed, rule, max_steps, started_at):
    """Train once and return the result as a dictionary."""
    task, tuned = TASKS[environment], TUNED[environment, algorithm]
    # At the horizon `learn` ends by itself, on a rollout boundary.
    step_limit = max_steps if max_steps < tuned.horizon else float("inf")
    if rule == "greedy":
        callback = GreedyRule(task, step_limit, environment, seed)
    else:
        callback = TrainingRule(task, step_limit)
    environments = make_vec_env(environment, n_envs=tuned.copies, seed=seed)
    if tuned.normalizes:
        environments = VecNormalize(environments, gamma=tuned.settings["gamma"])
    model = tuned.algorithm("MlpPolicy", environments, seed=seed, **tuned.settings)
    model.learn(total_timesteps=tuned.horizon, callback=callback)
    environments.close()
    stopped_at = callback.stopped_at - callback.check_seconds
    training_seconds = stopped_at - callback.learn_started_at
    return {
        "environment": environment,
        "algorithm": algorithm,
        "seed": seed,
        "rule": rule,
        "solved": callback.solved,
        "steps": callback.stopped_at_steps,
        "seconds_from_process_start": stopped_at - started_at,
        "training_seconds": training_seconds,
        "training_steps_per_second": callback.stopped_at_steps / training_seconds,
        "last_mean": callback.mean,
        "checks": callback.checks,
        "check_seconds": callback.check_seconds,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torch_threads": torch.get_num_threads(),
            "stable_baselines3": stable_baselines3.__version__,
            "gymnasium": gymnasium.__version__,
            "numpy": np.__version__,
        },
    }


def main():
    started_at = process_started_at()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", choices=sorted(TASKS), default="CartPole-v1")
    parser.add_argument("--algorithm", choices=["a2c", "ppo"], required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rule", choices=["greedy", "training"], required=True)
    parser.add_argument("--max-steps", type=int, help="default: rl-zoo's n_timesteps")
    parser.add_argument("--json", type=Path, required=True, help="the file to write")
    arguments = parser.parse_args()
    chosen = arguments.environment, arguments.algorithm
    if chosen not in TUNED:
        parser.error(f"there are no settings of rl-zoo here for {' and '.join(chosen)}")
    horizon = TUNED[chosen].horizon
    max_steps = horizon if arguments.max_steps is None else arguments.max_steps
    if not 1 <= max_steps <= horizon:
        parser.error(
            f"--max-steps is {max_steps}; it must be 1 to {horizon}, {arguments.algorithm}'s "
            "n_timesteps in rl-zoo, where its schedules end"
        )
    result = train(*chosen, arguments.seed, arguments.rule, max_steps, started_at)
    arguments.json.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
