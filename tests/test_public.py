"""Public names stay public, and importing them has no side effects."""

import json
import os
import subprocess
import sys
from typing import Any

import poise

PUBLIC = [
    "CheckpointReady",
    "EpisodeFinished",
    "Evaluated",
    "Event",
    "InputError",
    "Joined",
    "PlayedStep",
    "Player",
    "PoiseError",
    "Policy",
    "Rejected",
    "ReplayReport",
    "Score",
    "StopReason",
    "StopTraining",
    "RunStarted",
    "Stopped",
    "SummaryWritten",
    "WorkerRestarted",
    "Callback",
    "event_to_json",
    "TrainConfig",
    "TrainResult",
    "TrainingError",
    "TrainingSolved",
    "Updated",
    "EvaluationResult",
    "errors",
    "evaluate",
    "load",
    "play",
    "random_baseline",
    "register",
    "remove_run",
    "replay",
    "resume",
    "train",
]

WATCH = """
import json, os, sys, warnings
warnings.simplefilter("error")
before = dict(os.environ)
{code}
changed = {{k: v for k, v in os.environ.items() if before.get(k) != v}}
print(json.dumps({{
    "modules": sorted(sys.modules),
    "changed": changed,
    "lost": sorted(before.keys() - os.environ.keys()),
    "found": locals().get("found"),
}}))
"""

# Side effects of other packages do not count (Gymnasium sets a variable): import them first.
EVERYTHING = """
import importlib, pkgutil, equinox, gymnasium, jax, optax, tensorboardX
names = ("jax_enable_x64", "jax_compilation_cache_dir", "jax_cpu_enable_async_dispatch",
         "jax_platforms", "jax_debug_nans", "jax_numpy_rank_promotion")
was = {name: getattr(jax.config, name, None) for name in names}
before = dict(os.environ)
import poise
imported = []
for module in pkgutil.walk_packages(poise.__path__, "poise."):
    if module.name not in EXTRAS:
        importlib.import_module(module.name)
        imported.append(module.name)
from jax._src import xla_bridge
found = {
    "imported": imported,
    "config": was == {name: getattr(jax.config, name, None) for name in names},
    "backend": xla_bridge.backends_are_initialized(),
}
"""


def in_a_fresh_process(code: str) -> dict[str, Any]:
    """Run code in a new process; stdout must be the report alone, and stderr empty."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "XLA_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", WATCH.format(code=code)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 1, "importing printed something"
    report: dict[str, Any] = json.loads(lines[0])
    return report


def test_public_names() -> None:
    assert sorted(poise.__all__) == sorted(PUBLIC)
    assert dir(poise) == sorted(PUBLIC)


def test_public_names_exist() -> None:
    for name in PUBLIC:
        assert getattr(poise, name) is not None
    assert poise.train.__module__ == "poise.training.train"


def test_other_names_do_not_exist() -> None:
    assert not hasattr(poise, "Trainer")


def test_importing_poise_and_its_commands_is_fast() -> None:
    """JAX alone takes almost a second, and ``poise --help`` needs none of these packages."""
    report = in_a_fresh_process("import poise, poise.cli")
    slow = {"jax", "equinox", "optax", "gymnasium", "matplotlib", "scipy", "tensorboardX"}
    assert slow.isdisjoint(report["modules"])
    assert report["changed"] == {}
    assert report["lost"] == []


def test_importing_everything_has_no_side_effects() -> None:
    report = in_a_fresh_process(EVERYTHING.replace("EXTRAS", repr(("poise.envs.atari",))))
    assert "poise.cli" in report["found"]["imported"]
    assert "poise.learning.parameter_server" in report["found"]["imported"]
    assert report["changed"] == {}
    assert report["lost"] == []
    assert report["found"]["config"], "JAX's settings were changed"
    assert not report["found"]["backend"], "a backend was started"
