"""One run of Stable-Baselines3 on CartPole-v1, stopped by one of two solving rules, as JSON.

Hyper-parameters: rl-baselines3-zoo's tuned ones (`hyperparams/a2c.yml`, `hyperparams/ppo.yml`), and
as there eight environments in a `DummyVecEnv`, each in a `Monitor`. Torch keeps its own threads.

- greedy: at the first rollout boundary at or after every multiple of 4,096 environment steps the
  greedy policy plays 100 fresh episodes of Gymnasium's CartPole-v1; solved at the first mean of at
  least 475. The checks are not counted in the time.
- training: solved when the last 100 finished training episodes have a mean of at least 475. There
  are no checks.

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

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

ENVIRONMENT = "CartPole-v1"
ENVIRONMENT_COPIES = 8  # rl-zoo: n_envs
SOLVED_MEAN = 475.0  # Gymnasium's reward threshold for CartPole-v1
EPISODES = 100
STEPS_BETWEEN_CHECKS = 4_096


def linear(initial):
    """Return rl-zoo's `lin_` schedule: `initial` times the remaining share of the horizon."""
    return lambda progress_remaining: progress_remaining * initial


# algorithm: (class, rl-zoo's n_timesteps, its tuned settings; the rest is SB3's default)
TUNED = {
    "a2c": (A2C, 500_000, {"ent_coef": 0.0}),
    "ppo": (
        PPO,
        100_000,
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


def greedy_mean(model, seed, check):
    """Return the greedy policy's mean return over one fresh episode in each of 100 copies."""
    copies = [gymnasium.make(ENVIRONMENT) for _ in range(EPISODES)]
    seeds = np.random.SeedSequence([seed, check]).generate_state(EPISODES)
    observations = np.stack(
        [copy.reset(seed=int(number))[0] for copy, number in zip(copies, seeds, strict=True)]
    )
    returns = np.zeros(EPISODES)
    running = list(range(EPISODES))
    while running:  # ends: CartPole-v1 truncates at 500 steps
        actions, _ = model.predict(observations[running], deterministic=True)
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
    return float(returns.mean())


class SolvingRule(BaseCallback):
    """Stops learning when solved or out of steps, and keeps the clock."""

    def __init__(self, step_limit):
        super().__init__()
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
    """Solved when the greedy policy's mean over 100 fresh episodes is at least 475."""

    def __init__(self, step_limit, seed):
        super().__init__(step_limit)
        self.seed = seed
        self.next_check_at = STEPS_BETWEEN_CHECKS

    def check_if_due(self):
        """Check at the first boundary at or after each multiple, off the clock."""
        if self.stopped_at is not None or self.num_timesteps < self.next_check_at:
            return
        started_at = time.perf_counter()
        multiples = self.num_timesteps // STEPS_BETWEEN_CHECKS
        self.next_check_at = (multiples + 1) * STEPS_BETWEEN_CHECKS
        self.checks += 1
        self.mean = greedy_mean(self.model, self.seed, self.checks)
        self.check_seconds += time.perf_counter() - started_at
        if self.mean >= SOLVED_MEAN:
            self.stop(solved=True)

    # The start of a rollout, not its end: the policy has then been updated with the one before.
    def _on_rollout_start(self):
        self.check_if_due()

    def _on_training_end(self):
        self.check_if_due()
        super()._on_training_end()


class TrainingRule(SolvingRule):
    """Solved when the last 100 finished training episodes have a mean of at least 475."""

    def __init__(self, step_limit):
        super().__init__(step_limit)
        self.returns = collections.deque(maxlen=EPISODES)

    def _on_step(self):
        for information in self.locals["infos"]:
            episode = information.get("episode")  # set by Monitor when an episode finishes
            if episode is not None:
                self.returns.append(episode["r"])
                self.mean = float(sum(self.returns) / len(self.returns))
                if len(self.returns) == EPISODES and self.mean >= SOLVED_MEAN:
                    self.stop(solved=True)
        return super()._on_step()


def train(algorithm, seed, rule, max_steps, started_at):
    """Train once and return the result as a dictionary."""
    algorithm_class, horizon, settings = TUNED[algorithm]
    # At the horizon `learn` ends by itself, on a rollout boundary.
    step_limit = max_steps if max_steps < horizon else float("inf")
    callback = GreedyRule(step_limit, seed) if rule == "greedy" else TrainingRule(step_limit)
    environments = make_vec_env(ENVIRONMENT, n_envs=ENVIRONMENT_COPIES, seed=seed)
    model = algorithm_class("MlpPolicy", environments, seed=seed, **settings)
    model.learn(total_timesteps=horizon, callback=callback)
    environments.close()
    stopped_at = callback.stopped_at - callback.check_seconds
    training_seconds = stopped_at - callback.learn_started_at
    return {
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
    parser.add_argument("--algorithm", choices=sorted(TUNED), required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rule", choices=["greedy", "training"], required=True)
    parser.add_argument("--max-steps", type=int, help="default: rl-zoo's n_timesteps")
    parser.add_argument("--json", type=Path, required=True, help="the file to write")
    arguments = parser.parse_args()
    horizon = TUNED[arguments.algorithm][1]
    max_steps = horizon if arguments.max_steps is None else arguments.max_steps
    if not 1 <= max_steps <= horizon:
        parser.error(
            f"--max-steps is {max_steps}; it must be 1 to {horizon}, {arguments.algorithm}'s "
            "n_timesteps in rl-zoo, where its schedules end"
        )
    result = train(arguments.algorithm, arguments.seed, arguments.rule, max_steps, started_at)
    arguments.json.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
