"""What people type: numbers as 1e5, and flags that another trainer has under another name."""

import dataclasses
import difflib
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from poise.config import TrainConfig
from poise.errors import ConfigError

__all__ = ["require_known_flags", "whole_numbers"]

_ALIASES: dict[str, str] = {
    # Settings of SB3, CleanRL, RLlib, Sample Factory, the tutorials on A3C and their like.
    "adam-eps": "optimizer-epsilon",
    "alpha": "rmsprop-decay",
    "anneal-lr": "learning-rate-schedule linear",
    "beta1": "adam-beta1",
    "beta2": "adam-beta2",
    "checkpoint-freq": "checkpoint-every",
    "checkpoint-interval": "checkpoint-every",
    "clip-rewards": "reward-clip",
    "clip-reward": "reward-clip",
    "decay": "rmsprop-decay",
    "ent-coef": "entropy-coefficient",
    "ent-coeff": "entropy-coefficient",
    "entropy": "entropy-coefficient",
    "entropy-beta": "entropy-coefficient",
    "entropy-coef": "entropy-coefficient",
    "entropy-coeff": "entropy-coefficient",
    "entropy-weight": "entropy-coefficient",
    "env-args": "env-kwargs",
    "env-num": "envs-per-worker",
    "eps": "optimizer-epsilon",
    "epsilon": "optimizer-epsilon",
    "eval-episodes": "selection-episodes",
    "eval-every": "evaluation-interval",
    "eval-freq": "evaluation-interval",
    "eval-interval": "evaluation-interval",
    "exp-name": "run-dir",
    "gae": "gae-lambda",
    "gamma": "discount",
    "grad-clip": "max-gradient-norm",
    "grad-norm": "max-gradient-norm",
    "hidden-dim": "hidden-sizes",
    "hidden-size": "hidden-sizes",
    "hiddens": "hidden-sizes",
    "lambda": "gae-lambda",
    "lam": "gae-lambda",
    "layers": "hidden-sizes",
    "log-dir": "run-dir",
    "logdir": "run-dir",
    "log-folder": "run-dir",
    "lr": "learning-rate",
    "lr-schedule": "learning-rate-schedule",
    "max-env-steps": "max-steps",
    "max-eps": "max-episodes",
    "max-global-ep": "max-episodes",
    "max-grad-norm": "max-gradient-norm",
    "max-time": "max-seconds",
    "max-timesteps": "max-steps",
    "n-cpu": "workers",
    "n-envs": "envs-per-worker",
    "n-episodes": "max-episodes",
    "n-eval-episodes": "selection-episodes",
    "n-jobs": "workers",
    "n-steps": "rollout-length",
    "n-threads": "workers",
    "n-timesteps": "max-steps",
    "n-workers": "workers",
    "net-arch": "hidden-sizes",
    "norm-adv": "normalize-advantages",
    "norm-obs": "normalize-observations on",
    "normalize-advantage": "normalize-advantages",
    "normalize-obs": "normalize-observations on",
    "num-env": "envs-per-worker",
    "num-envs": "envs-per-worker",
    "num-envs-per-worker": "envs-per-worker",
    "num-episodes": "max-episodes",
    "num-processes": "workers",
    "num-rollout-workers": "workers",
    "num-steps": "rollout-length",
    "num-threads": "workers",
    "num-timesteps": "max-steps",
    "num-workers": "workers",
    "optim": "optimizer",
    "outdir": "run-dir",
    "output": "run-dir",
    "output-dir": "run-dir",
    "policy-lr": "learning-rate",
    "processes": "launcher processes",
    "reward-threshold": "target-return",
    "rew-scale": "reward-scale",
    "rollout": "rollout-length",
    "rollout-fragment-length": "rollout-length",
    "rmsprop-alpha": "rmsprop-decay",
    "run-name": "run-dir",
    "save-dir": "run-dir",
    "save-freq": "checkpoint-every",
    "save-interval": "checkpoint-every",
    "serial": "launcher serial",
    "step-size": "learning-rate",
    "steps": "max-steps",
    "stop-reward": "target-return",
    "t-max": "rollout-length",
    "target-reward": "target-return",
    "tau": "gae-lambda",
    "tb": "tensorboard",
    "tensorboard-log": "tensorboard",
    "threads": "launcher threads",
    "time-limit": "max-seconds",
    "timesteps": "max-steps",
    "total-episodes": "max-episodes",
    "total-steps": "max-steps",
    "total-timesteps": "max-steps",
    "train-steps": "max-steps",
    "train-for-env-steps": "max-steps",
    "unroll-length": "rollout-length",
    "update-freq": "rollout-length",
    "value-coef": "value-coefficient",
    "value-loss-coef": "value-coefficient",
    "vf-coef": "value-coefficient",
    "vf-coeff": "value-coefficient",
    "vf-loss-coeff": "value-coefficient",
    "wrapper": "wrappers",
    # Of commands that look at a run.
    "deterministic": "policy greedy",
    "stochastic": "policy sampled",
    "render-mode": "render",
    "eval-num": "episodes",
    "out": "output",
    "save": "output",
}
"""What other trainers call it, and what it is here; a word behind the flag is its value."""

_OTHERWISE: dict[str, str] = {
    "algo": "A3C is the only algorithm",
    "batch-size": "a batch is --envs-per-worker times --rollout-length steps",
    "config": "settings are flags, and a run's are in its config.json",
    "cuda": "JAX chooses the device: JAX_PLATFORMS=cpu or cuda in the environment",
    "device": "JAX chooses the device: JAX_PLATFORMS=cpu or cuda in the environment",
    "env": "the environment's name stands alone, as in poise {command} CartPole-v1",
    "env-id": "the environment's name stands alone, as in poise {command} CartPole-v1",
    "env-name": "the environment's name stands alone, as in poise {command} CartPole-v1",
    "environment": "the environment's name stands alone, as in poise {command} CartPole-v1",
    "eval": "poise evaluate RUN scores a run's policy",
    "frame-stack": "--wrappers takes gymnasium.wrappers:FrameStackObservation and the like",
    "gpu": "JAX chooses the device: JAX_PLATFORMS=cpu or cuda in the environment",
    "load": "poise resume RUN goes on with a run",
    "load-model": "poise resume RUN goes on with a run",
    "minibatch-size": "a batch is --envs-per-worker times --rollout-length steps",
    "n-epochs": "A3C takes every step once",
    "no-cuda": "JAX chooses the device: JAX_PLATFORMS=cpu or cuda in the environment",
    "play": "poise play RUN shows a run's policy",
    "render": "poise play RUN --render human shows a run's policy in a window",
    "resume": "poise resume RUN goes on with a run",
    "run": "the run's folder stands alone, as in poise {command} RUN",
    "run-dir": "the run's folder stands alone, as in poise {command} RUN",
    "train": "poise train begins a run",
    "update-epochs": "A3C takes every step once",
    "verbose": "--quiet prints nothing, and without it progress is shown",
}
"""What is no flag here, and what there is instead."""

_BY_COMMAND = {
    "evaluate": {"n-eval-episodes": "episodes", "eval-episodes": "episodes"},
    "bench": {"n-envs": "envs-per-worker"},
}
_EPISODES = ("n-episodes", "num-episodes", "n-eval-episodes", "eval-episodes", "max-episodes")
"""Names of the number of episodes, where a command plays some and has no other number of them."""


whole_numbers = ConstructorRegistry()
"""Reads whole numbers as people write them, ``1e5`` and ``100_000``, wherever a flag takes one."""


@whole_numbers.primitive_rule
def _whole_number(type_info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[int] | None:
    if type_info.type is not int:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda texts: _read_whole(texts[0]),
        is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


def _read_whole(text: str) -> int:
    """A whole number; of those with a power of ten, only what a float holds exactly."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer() or abs(number) > 2**53:
            raise
        return int(number)


def require_known_flags(command: str, kind: Any, arguments: Sequence[str]) -> None:
    """Look at the flags of a command before they are parsed.

    Args:
        command: its name.
        kind: its class.
        arguments: behind its name.

    Raises:
        ConfigError: one is not a flag of the command; the message names what it is called here.
    """
    known = set(_flags(kind))
    problems = []
    for argument in arguments:
        name = argument.removeprefix("--").partition("=")[0].replace("_", "-")
        if not argument.startswith("--") or not name or name == "help" or name.startswith("tyro-"):
            continue
        if name not in known and name.removeprefix("no-") not in known:
            problems.append(f"no --{name}: {_instead(command, name, known)}")
    if problems:
        more = f" (poise {command} --help lists its flags)"
        raise ConfigError(f"{command} has {'; '.join(problems)}{more}")


def _flags(kind: Any) -> Iterator[str]:
    """The flags of a command's class."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        if typing.get_type_hints(kind)[field.name] is TrainConfig:
            yield from _flags(TrainConfig)
        elif "Positional" not in str(hints[field.name]):
            yield field.name.replace("_", "-")


def _instead(command: str, name: str, known: set[str]) -> str:
    """What there is instead of an unknown flag."""
    ours = _BY_COMMAND.get(command, {}).get(name) or _ALIASES.get(name, "")
    flag = ours.partition(" ")[0].removeprefix("no-")
    if flag in known:
        return f"here it is --{ours}"
    if name in _EPISODES and "episodes" in known:
        return "here it is --episodes"
    if command == "resume" and (
        name in set(_flags(TrainConfig)) or flag in set(_flags(TrainConfig))
    ):
        return (
            "a run's settings are fixed when it begins, and only --max-steps, --max-episodes and "
            "--max-seconds can be changed; poise train begins another"
        )
    if name in _OTHERWISE:
        return _OTHERWISE[name].format(command=command)
    near = difflib.get_close_matches(name, sorted(known), n=2)
    if near:
        return f"perhaps you meant {' or '.join(f'--{one}' for one in near)}"
    return "there is nothing like it"
