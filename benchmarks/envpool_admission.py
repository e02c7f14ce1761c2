"""Hold EnvPool's environments against Gymnasium's own, to admit them as `--world envpool`.

For each id, in this order:

1. Spaces: shapes, kinds of numbers, bounds of actions; time limits.
2. Equal states, where an observation tells the state (MuJoCo): Gymnasium's copy is put into the
   state of EnvPool's first observation, and both take the same 20 random actions. Observations,
   rewards and ends must agree. This decides only with the MuJoCo version that EnvPool contains:
   another one computes slightly different numbers by itself.
3. Equal distributions: both play one episode a seed, with the same policy (zeros; random; where
   Gymnasium has one, its heuristic). Returns, lengths, and each number of the observations after 0,
   10 and 50 steps are compared by two-sample Kolmogorov-Smirnov tests, at a level of 1% for all
   tests of an id together (Bonferroni); for the means of returns and lengths a 99% interval of the
   difference (Welch) is reported.

Ids that the JSON file has already are not examined again.

    python benchmarks/envpool_admission.py --json benchmarks/results/envpool.json
    python benchmarks/envpool_admission.py --ids Hopper-v5 --episodes 30
"""

import argparse
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import report
from envpool_episodes import BOX2D, Played, make_pool, play_envpool, play_gymnasium, policies
from scipy import stats

MUJOCO = [
    "Ant-v5",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "InvertedDoublePendulum-v5",
    "InvertedPendulum-v5",
    "Pusher-v5",
    "Reacher-v5",
    "Swimmer-v5",
    "Walker2d-v5",
]
ENVPOOLS_MUJOCO = "3.6.0"  # of EnvPool 1.2.5
LEVEL = 0.01
IMAGE = 1000
"""Observations of at least as many numbers are images, and are described by few numbers."""
STEPS = 20
"""Steps from equal states."""
TOLERANCE = 1e-5
"""Largest difference from equal states, relative to the larger of 1 and the number: EnvPool's
rewards are float32, and contacts amplify rounding."""
PACKAGES = ("envpool", "gymnasium", "mujoco")
NOTES = (
    "From equal states: the largest difference of an observed number or a reward in 20 steps of 20 "
    "episodes with random actions, relative to the larger of 1 and the number. It decides only "
    f"with MuJoCo {ENVPOOLS_MUJOCO}, which EnvPool contains.",
    "Policies: mean return in Gymnasium's environment / in EnvPool, and the 99% interval of the "
    "difference (Welch).",
    "p: the smallest p-value of all Kolmogorov-Smirnov tests of an id (returns, lengths, every "
    "observed number after 0, 10 and 50 steps, under each policy), times their number; refused "
    "below 0.01.",
)


SHARE = {
    "Ant-v5": 0.4,
    "BipedalWalkerHardcore-v3": 2,
    "CarRacing-v3": 0.2,
    "HumanoidStandup-v5": 0.4,
    "LunarLander-v3": 5,
    "LunarLanderContinuous-v3": 5,
}
"""Factors of ``--episodes``: fewer where steps are slow, more where they are quick and returns vary
much."""


def take_state(name: str, environment: Any, observation: np.ndarray) -> None:
    """Put Gymnasium's copy of a MuJoCo environment into the state that was observed.

    Where the position is not observed (v5 leaves out x, or x and y), nothing depends on it.
    """
    inner = environment.unwrapped
    places, speeds = inner.data.qpos.copy(), inner.data.qvel.copy()
    if name.startswith("InvertedDouble"):
        places[0], places[1:] = observation[0], np.arctan2(observation[1:3], observation[3:5])
        speeds[:] = observation[5:8]
    elif name.startswith("Reacher"):
        places[:2] = np.arctan2(observation[2:4], observation[:2])
        places[2:], speeds[:2], speeds[2:] = observation[4:6], observation[6:8], 0
        inner.goal = places[2:]
    elif name.startswith("Pusher"):
        places[:7], speeds[:7], speeds[7:] = observation[:7], observation[7:14], 0
        # Both slide along y first, then along x.
        places[-4:-2] += (observation[17:19] - inner.get_body_com("object")[:2])[::-1]
        places[-2:] += (observation[20:22] - inner.get_body_com("goal")[:2])[::-1]
    else:
        hidden = {"Ant": 2, "Hum": 2, "Swi": 2, "Inv": 0}.get(name[:3], 1)
        seen = len(places) - hidden
        places[:hidden], places[hidden:] = 0, observation[:seen]
        speeds[:] = observation[seen : seen + len(speeds)]
    inner.set_state(places, speeds)


def worst(mine: Any, other: Any) -> float:
    """Return the largest difference, relative to the larger of 1 and the number."""
    mine, other = np.asarray(mine, float), np.asarray(other, float)
    return float(np.max(np.abs(mine - other) / np.maximum(1, np.abs(other))))


def from_equal_states(name: str, environment: Any, episodes: int) -> dict[str, Any]:
    """Step both from equal states with the same actions."""
    pool = make_pool(name, list(range(episodes)))
    observations, _ = pool.reset()
    generator = np.random.default_rng(0)
    space = environment.action_space
    found = {"observations": 0.0, "rewards": 0.0}
    ends = 0
    shape = (STEPS, episodes, *space.shape)
    actions = generator.uniform(space.low, space.high, shape).astype(space.dtype)
    steps = [pool.step(one)[:4] for one in actions]
    for copy in range(episodes):
        environment.reset(seed=copy)
        take_state(name, environment, observations[copy])
        for step, action in zip(steps, actions, strict=True):
            theirs = [one[copy] for one in step]
            seen, reward, ended, cut, _ = environment.step(action[copy])
            found["observations"] = max(found["observations"], worst(theirs[0], seen))
            found["rewards"] = max(found["rewards"], worst(theirs[1], reward))
            ends += (bool(theirs[2]), bool(theirs[3])) != (bool(ended), bool(cut))
            if ended or cut or theirs[2] or theirs[3]:
                break
    return {**found, "different_ends": ends}


def described(images: np.ndarray) -> np.ndarray:
    """Return three numbers for each image: mean, spread, number of different bytes."""
    counts = [len(np.unique(image)) for image in images]
    return np.stack([images.mean(1), images.std(1), counts], 1)


def compare(ours: Played, theirs: Played) -> dict[str, Any]:
    """Compare distributions: the smallest p-value, and intervals of differences of means."""
    tests = {"returns": (ours.returns, theirs.returns), "lengths": (ours.lengths, theirs.lengths)}
    for moment in ours.seen.keys() & theirs.seen.keys():
        one, other = ours.seen[moment], theirs.seen[moment]
        if min(len(one), len(other)) < 20:
            continue
        if one.shape[1] >= IMAGE:
            one, other = described(one), described(other)
        for number in range(one.shape[1]):
            tests[f"number {number} after {moment}"] = one[:, number], other[:, number]
    # Rounded: numbers that are equal up to rounding must not be told apart by their order.
    values = {
        key: float(stats.ks_2samp(*(np.round(x, 4) for x in pair)).pvalue)
        for key, pair in tests.items()
    }
    least = min(values, key=lambda key: values[key])
    row = {"tests": len(values), "smallest_p": values[least], "where": least}
    for key, pair in (("return", tests["returns"]), ("length", tests["lengths"])):
        row[key] = [round(float(np.mean(one)), 3) for one in pair]
        if np.ptp(np.concatenate(pair)) > 0:
            interval = stats.ttest_ind(*pair, equal_var=False).confidence_interval(0.99)
            row[f"{key}_difference"] = [
                round(float(interval.low), 3),
                round(float(interval.high), 3),
            ]
    return row


def examine(name: str, episodes: int) -> dict[str, Any]:
    """Return the evidence on one id, and whether it is admitted."""
    environment = gymnasium.make(name)
    pool = make_pool(name, [0])
    versions = [f"{one} {importlib.metadata.version(one)}" for one in PACKAGES]
    evidence: dict[str, Any] = {"admitted": False, "versions": versions}
    for kind in ("observation", "action"):
        mine, other = getattr(environment, f"{kind}_space"), getattr(pool, f"{kind}_space")
        if type(mine) is not type(other) or mine.shape != other.shape:
            return evidence | {"why": f"{kind} space {other}, not {mine}"}
        if kind == "action" and hasattr(mine, "low") and not np.allclose(mine.low, other.low):
            return evidence | {"why": f"actions from {other.low}, not from {mine.low}"}
        if kind == "action" and hasattr(mine, "high") and not np.allclose(mine.high, other.high):
            return evidence | {"why": f"actions up to {other.high}, not {mine.high}"}
    why = []
    if name in MUJOCO:
        evidence["equal_states"] = from_equal_states(name, environment, 20)
        worst_one = max(evidence["equal_states"][key] for key in ("observations", "rewards"))
        decides = importlib.metadata.version("mujoco") == ENVPOOLS_MUJOCO
        evidence["equal_states"]["decides"] = decides
        if decides and (worst_one > TOLERANCE or evidence["equal_states"]["different_ends"]):
            why.append(f"from equal states: {evidence['equal_states']}")
    episodes = max(20, round(episodes * SHARE.get(name, 1)))
    rows = {}
    for policy, make in policies(name, environment).items():
        ours = play_gymnasium(name, make, episodes)
        rows[policy] = compare(ours, play_envpool(name, make, episodes))
    level = LEVEL / sum(row["tests"] for row in rows.values())
    for policy, row in rows.items():
        if row["smallest_p"] < level:
            why.append(f"{policy}: {row['where']} differs, p = {row['smallest_p']:.1e}")
    environment.close()
    evidence |= {"episodes": episodes, "level_of_each": level, "policies": rows}
    return evidence | {"admitted": not why, "why": "; ".join(why)}


def summary(name: str, evidence: dict[str, Any]) -> dict[str, Any]:
    """Return the evidence on one id as a row of the table in the documents."""
    equal = evidence.get("equal_states")
    row: dict[str, Any] = {
        "": name,
        "admitted": "yes" if evidence["admitted"] else "no",
        "from_equal_states": f"{max(equal['observations'], equal['rewards']):.0e}"
        if equal
        else "-",
    }
    for policy in ("zeros", "random", "heuristic"):
        found = evidence.get("policies", {}).get(policy)
        row[policy] = "-"
        if found is not None:
            one, other = found["return"]
            low, high = found.get("return_difference", (0.0, 0.0))
            row[policy] = f"{one:.5g} / {other:.5g} ({low:.3g} to {high:.3g})"
    found = evidence.get("policies", {}).values()
    tests = sum(one["tests"] for one in found)
    row["p"] = f"{min(1.0, tests * min(one['smallest_p'] for one in found)):.2g}" if tests else "-"
    return row


def main() -> None:
    """Examine each id, print the evidence, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ids", nargs="+", default=[*MUJOCO, *BOX2D])
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    if arguments.json and arguments.json.exists():
        found = json.loads(arguments.json.read_text())["ids"]
    for name in arguments.ids:
        if name not in found:
            found[name] = examine(name, arguments.episodes)
        evidence = found[name]
        print(f"{name}: {'admitted' if evidence['admitted'] else 'NOT ADMITTED'}", end=" ")
        print(evidence["why"], evidence.get("equal_states", ""))
        for policy, row in evidence.get("policies", {}).items():
            print(f"    {policy:10} {row}", flush=True)
        if arguments.json:
            write(arguments.json, found)


def write(path: Path, found: dict[str, Any]) -> None:
    """Write the evidence on all ids."""
    versions = {", ".join(one["versions"]) for one in found.values()}
    refused = [f"{name}: {one['why']}." for name, one in found.items() if not one["admitted"]]
    content = {
        **report.metadata(sys.argv),
        "notes": [*NOTES, *(f"With {one}." for one in sorted(versions)), *refused],
        "summary": [summary(name, found[name]) for name in sorted(found)],
        "ids": found,
    }
    report.write_json(path, content)


if __name__ == "__main__":
    main()
