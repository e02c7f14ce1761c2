"""Traced programs in the user's cache folder, for the ``poise`` command.

A stored program must never be used where tracing would give another one. So its name has a hash of
everything that it depends on: poise's own source, versions, JAX's settings, the run's settings and
spaces. Code that poise does not know is not stored: another network, or a twin that the user
registered. Nor are programs of scripts that use poise's Python interface, because a script can
replace any function of poise.
"""

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from poise.agent.agent import Agent
from poise.agent.space_json import space_to_json
from poise.config import TrainConfig
from poise.envs.jax_envs import JaxEnvs
from poise.envs.registry import World
from poise.envs.xla_envs import XlaEnvs
from poise.errors import FileFormatError
from poise.learning.algorithms.registry import make_algorithm
from poise.safe_open import read_bytes
from poise.storage.files import write_bytes
from poise.training.process_role import is_command
from poise.training.runtime import usable_cache_folder, versions

__all__ = ["FileProgramStore", "describe_programs", "program_store"]

WITHOUT_EFFECT = (
    *("seed", "workers", "launcher", "max_steps", "max_episodes", "max_seconds", "target_return"),
    *("stop_when_solved", "stop_when_flat", "evaluation_interval", "evaluation_step_limit"),
    *("evaluation_copies", "verification_episodes", "record_every", "checkpoint_every"),
    *("keep_checkpoints", "max_bad_gradients", "max_restarts", "restart_on_error"),
    "worker_timeout",
)
"""Settings on which no program depends; a test changes each of them."""
MAX_PROGRAM_BYTES = 1 << 26
MOST_PROGRAMS = 256
"""Programs that are kept; those not used for longest are removed."""
SOURCE = Path(__file__).parents[1]


class FileProgramStore:
    """Keeps each program in a file, after its SHA-256 hash.

    Args:
        folder: the folder of the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes | None:
        """Return a program; None if there is none, or if its file is damaged."""
        path = self._folder / name
        try:
            content = read_bytes(path, MAX_PROGRAM_BYTES)
            os.utime(path)
        except (OSError, FileFormatError):
            return None
        digest, program = content[:32], content[32:]
        return program if hashlib.sha256(program).digest() == digest else None

    def write(self, name: str, program: bytes) -> None:
        """Keep a program, and remove the oldest ones; do nothing if the disk refuses."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_bytes(self._folder / name, hashlib.sha256(program).digest() + program)
            kept = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)
            for path in kept[:-MOST_PROGRAMS]:
                path.unlink()
        except OSError:
            # Without it, the next start traces the program again.
            return


@functools.cache
def program_store() -> FileProgramStore | None:
    """Return this process's store; None if programs are not stored."""
    if not is_command():
        return None
    folder = usable_cache_folder()
    return None if folder is None else FileProgramStore(folder.with_name("programs"))


def describe_programs(config: TrainConfig, agent: Agent, envs: World) -> str | None:
    """Describe all that a run's programs depend on; None if poise does not know all of it."""
    if agent.network_factory is not None or isinstance(envs, XlaEnvs):
        return None
    twin: tuple[Any, ...] = ()
    if isinstance(envs, JaxEnvs):
        kind = type(envs.environment)
        if not kind.__module__.startswith("poise."):
            return None
        twin = kind.__module__, kind.__qualname__, envs.name, envs.max_episode_steps
    settings = {name: value for name, value in vars(config).items() if name not in WITHOUT_EFFECT}
    described = {
        "source": _source_hash(),
        "versions": versions(),
        "jax": {**jax.config.values, **_named_like_jax(os.environ)},
        "backend": jax.default_backend(),
        "settings": settings,
        "algorithm": repr(make_algorithm(config)),
        "spaces": [space_to_json(agent.observation_space), space_to_json(agent.action_space)],
        "network": agent.spec.to_json(),
        "world": (envs.kind, *twin),
        "shaping": repr(envs.shaping),
    }
    return json.dumps(described, sort_keys=True, default=repr)


def _named_like_jax(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(("JAX_", "XLA_"))}


@functools.cache
def _source_hash() -> str:
    """Return a hash of poise's own source files."""
    digest = hashlib.sha256()
    for path in sorted(SOURCE.rglob("*.py")):
        digest.update(f"{path.relative_to(SOURCE)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
