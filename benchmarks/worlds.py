"""Environments against Stable-Baselines3: hosted CartPole, Box2D, MuJoCo, Pong; and launchers.

1. Gymnasium's Python CartPole in a loop (no twin, no vector implementation), 8 environments a
   worker, against SB3 A2C with 8 environments: at least 8 times its steps/s.
2. LunarLander-v3 and HalfCheetah-v5 with poise's defaults, against SB3 A2C with as many
   environments: at least 6 times. Also measured: HalfCheetah in EnvPool alone, stepped by two
   threads with 8 copies each, which no training in it can exceed.
3. Pong with the A3C paper's network, 16 environments and rollouts of 5, against SB3 A2C with the
   same network and preprocessing: at least 2 times.
4. The processes launcher against threads, on a compiled environment with a network of a million
   parameters: at most 5% slower.
5. Pong: poise's copies, 8 in each of two threads, against ale-py's vector environment alone with 16
   copies and two threads of its own: at least as fast. Also measured: training with ale-py's XLA
   functions inside the compiled cycle (poise's default) and with its vector environment stepped
   from Python.

    python benchmarks/worlds.py --repeats 3 --seconds 10
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import poise_run
import processes
import report
from comparison import Comparison, Given, Measurements, main, ratio

# Below 47,500 steps SB3's training rule (100 episodes of mean 475) cannot stop the run early.
PEER_STEPS = 40_000
NEVER = str(10**12)
COMMON = ("--no-stop-when-solved", "--evaluation-interval", NEVER, "--checkpoint-every", "3600s")
SHORT = ("--selection-episodes", "2", "--verification-episodes", "2")
START_SECONDS = 12.0
"""Added to a run's budget, because the budget counts from before the worker processes start."""
LARGE_NETWORK = ("700", "700")
"""About a million parameters on CartPole, in two trunks."""
PONG_COPIES, PONG_THREADS = 8, 2  # of HalfCheetah alone, too
PONG_ROLLOUT = 20
PEER = Path(__file__).resolve().parent / "peers" / "sb3_rate.py"
SB3_ROLLOUT = 5
BESIDE_SB3 = ("LunarLander-v3", "HalfCheetah-v5", "ALE/Pong-v5")
COPIES_BESIDE_SB3 = 16

NOTES = (
    "Medians over repeats; the rows of a comparison alternate. Steps per second of training leave "
    "out start-up and compilation.",
    "SB3 A2C: rl-zoo's settings for CartPole-v1, 8 environments in one process, torch's own "
    "threads.",
    "SB3 A2C elsewhere: its defaults, with as many environments as poise (2 workers x 8); for Pong "
    "the same network and preprocessing.",
    "HalfCheetah in EnvPool alone: the same random actions in every step, 8 copies in each of two "
    "threads.",
    "Pong: one step is 4 frames; emulation alone: random actions, 8 copies in each of two threads.",
)

PROBE = """
import json, sys, threading, time
import numpy as np
what, seconds, copies, threads = sys.argv[1], float(sys.argv[2]), *map(int, sys.argv[3:])

def timed(step, count):
    # step() takes count steps; runs in its own thread; returns steps per second
    step(); step()
    begin = time.perf_counter(); done = 0
    while time.perf_counter() - begin < seconds:
        step(); done += count
    return done / (time.perf_counter() - begin)

def in_threads(make, count):
    rates = [0.0] * threads
    ready = threading.Barrier(threads)
    steps = [make(number) for number in range(threads)]
    def run(number):
        ready.wait(); rates[number] = timed(steps[number], count)
    team = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for one in team: one.start()
    for one in team: one.join()
    return sum(rates)

if what == "ale_alone":
    from ale_py.vector_env import AtariVectorEnv
    total = copies * threads
    env = AtariVectorEnv("pong", total, num_threads=threads, reward_clipping=False,
                         use_fire_reset=False)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    rate = timed(lambda: env.step(rng.integers(0, 6, total)), total)
elif what == "envpool_alone":
    import envpool
    def make(number):
        env = envpool.make("HalfCheetah-v5", env_type="gymnasium", num_envs=copies, num_threads=1,
                           seed=number)
        env.reset()
        actions = np.random.default_rng(number).uniform(-1, 1, (copies, 6))
        return lambda: env.step(actions)
    rate = in_threads(make, copies)
else:
    from poise.config import EnvironmentChoice
    from poise.envs.env_factory import find_env_factory
    from poise.envs.registry import choose_envs
    from poise.envs.reward_shaping import RewardShaping
    env_factory = find_env_factory(EnvironmentChoice("ALE/Pong-v5"))
    envs = choose_envs(env_factory, "auto", RewardShaping())
    def make(number):
        env = envs.copies(copies); env.reset(list(range(copies)))
        rng = np.random.default_rng(number)
        return lambda: env.step(rng.integers(0, 6, copies))
    rate = in_threads(make, copies)
print(json.dumps(rate))
"""


def train(
    poise: Path, environment: str, seconds: float, cache: Path, *options: str
) -> dict[str, Any]:
    """Run ``poise train`` for some seconds in a fresh process; return figures of its summary."""
    # Without presets: A3C is compared with A2C.
    options = "--preset", "none", *COMMON, *SHORT, *options
    limit = "--max-seconds", str(seconds + START_SECONDS)
    run = poise_run.train(poise, environment, (*limit, *options), cache)
    summary = run.summary
    if summary["steps_per_second"] is None:
        raise processes.BenchmarkError(f"{environment} learned nothing: --seconds is short")
    return {
        "steps_per_second": summary["steps_per_second"],
        "updates": summary["updates"],
        "launcher": summary["launcher"],
        "process": run.finished.costs(),
    }


def probe(what: str, seconds: float, cache: Path) -> dict[str, Any]:
    """Run one of the small loops of `PROBE` in a fresh process."""
    numbers = (seconds, PONG_COPIES, PONG_THREADS)
    command = [sys.executable, "-c", PROBE, what, *map(str, numbers)]
    finished = processes.run(command, processes.poise_environment(cache))
    return {"steps_per_second": json.loads(finished.output), "process": finished.costs()}


def sb3_rate(peers_python: Path, environment: str, seconds: float) -> dict[str, Any]:
    """Train with SB3's A2C for some seconds."""
    command = [str(peers_python), str(PEER), environment, "--seconds", str(seconds)]
    finished = processes.run([*command, "--copies", str(COPIES_BESIDE_SB3)], os.environ)
    return {**json.loads(finished.output), "process": finished.costs()}


def measurements(given: Given) -> Measurements:
    """Return the measurements by name, in the order in which they alternate."""
    poise, peers_python, seconds, cache = given

    def peer(repeat: int) -> dict[str, Any]:
        assert peers_python is not None
        finished, result = processes.sb3_train(
            peers_python, "a2c", repeat, "training", max_steps=PEER_STEPS
        )
        rate = result["training_steps_per_second"]
        return {"steps_per_second": rate, "process": finished.costs()}

    def hosted(_: int) -> dict[str, Any]:
        options = ("--world", "copies", "--launcher", "auto", "--envs-per-worker", "8")
        return train(poise, "CartPole-v1", seconds, cache, *options)

    def launched(launcher: str) -> Callable[[int], dict[str, Any]]:
        options = ("--launcher", launcher, "--hidden-sizes", *LARGE_NETWORK)
        return lambda _: train(poise, "CartPole-v1", seconds, cache, *options)

    def pong(world: str) -> Callable[[int], dict[str, Any]]:
        options = ("--workers", str(PONG_THREADS), "--envs-per-worker", str(PONG_COPIES))
        options += ("--rollout-length", str(PONG_ROLLOUT), "--evaluation-step-limit", "20")
        return lambda _: train(poise, "ALE/Pong-v5", seconds, cache, "--world", world, *options)

    def beside_sb3(environment: str) -> Callable[[int], dict[str, Any]]:
        options = ["--workers", "2", "--envs-per-worker", str(COPIES_BESIDE_SB3 // 2)]
        if environment.startswith("ALE/"):
            options += ["--rollout-length", str(SB3_ROLLOUT), "--evaluation-step-limit", "20"]
        return lambda _: train(poise, environment, seconds, cache, *options)

    def sb3(environment: str) -> Callable[[int], dict[str, Any]]:
        assert peers_python is not None
        return lambda _: sb3_rate(peers_python, environment, seconds)

    def probing(what: str) -> Callable[[int], dict[str, Any]]:
        return lambda _: probe(what, seconds, cache)

    found: Measurements = {"CartPole, hosted": hosted}
    if peers_python is not None:
        found["CartPole, SB3 A2C"] = peer
    for environment in BESIDE_SB3:
        found[f"{environment}, poise"] = beside_sb3(environment)
        if peers_python is not None:
            found[f"{environment}, SB3 A2C"] = sb3(environment)
    found["HalfCheetah-v5, EnvPool alone"] = probing("envpool_alone")
    found["1M parameters, threads"] = launched("threads")
    found["1M parameters, processes"] = launched("processes")
    found["Pong, ale-py alone"] = probing("ale_alone")
    found["Pong, poise's copies"] = probing("copies")
    found["Pong, training, XLA functions"] = pong("xla")
    found["Pong, training, from Python"] = pong("atari")
    return found


def bars(rates: Mapping[str, float]) -> Sequence[report.Bar]:
    """Return the ratios that are wanted."""

    def bar(name: str, one: str, other: str, least: float) -> report.Bar:
        return report.Bar(name, ratio(rates, one, other), ">=", least, "x")

    return [
        bar("hosted CartPole / SB3 A2C", "CartPole, hosted", "CartPole, SB3 A2C", 8),
        *(
            bar(f"{one} / SB3 A2C", f"{one}, poise", f"{one}, SB3 A2C", least)
            for one, least in zip(BESIDE_SB3, (6, 6, 2), strict=True)
        ),
        bar(
            "processes / threads, 1M parameters",
            "1M parameters, processes",
            "1M parameters, threads",
            0.95,
        ),
        bar("Pong's emulation / ale-py alone", "Pong, poise's copies", "Pong, ale-py alone", 1),
        bar(
            "Pong, XLA functions / from Python",
            "Pong, training, XLA functions",
            "Pong, training, from Python",
            1,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main(Comparison("worlds", measurements, bars, NOTES), __doc__))
