"""Run `poise` and the peers as fresh processes, time them from outside, and read their results.

The clock runs from just before the spawn until the child has been reaped (`wait4`, which also gives
the peak resident memory). The parent only sleeps during this time. The CPU use of other programs is
recorded with every timing: two threads of torch become many times slower when they must share two
cores, and such a run would favour poise.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEER_SCRIPT = Path(__file__).resolve().parent / "peers" / "sb3_solve.py"
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
DEADLINE_SECONDS = 900.0  # for one process; the slowest here (SB3 with its checks) take under 120


class BenchmarkError(Exception):
    """A process failed, exceeded its deadline or wrote something unreadable."""


@dataclass(frozen=True)
class Finished:
    """A process that has exited with status 0."""

    seconds: float
    peak_memory_mib: float
    other_cores: float | None  # cores that other programs kept busy; None except on Linux
    output: str

    def costs(self) -> dict[str, Any]:
        """Return the time and memory of the process, for a result row."""
        return {
            "process_seconds": self.seconds,
            "peak_memory_mib": self.peak_memory_mib,
            "other_cores": self.other_cores,
        }


def leave_on_termination() -> None:
    """Make SIGTERM exit normally, so that no child process and no temporary directory remains."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def machine_busy_seconds() -> float | None:
    """Return the CPU seconds of the whole machine since boot, or None except on Linux."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    # proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal
    user, nice, system, _, _, irq, softirq, steal = map(
        int, stat.read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def run(command: Sequence[str], environment: Mapping[str, str]) -> Finished:
    """Run a command to its end; raise BenchmarkError if it fails or exceeds its deadline."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        busy_before = machine_busy_seconds()
        started_at = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,  # so that the deadline reaches its children too
        )
        overran = threading.Event()

        def stop() -> None:
            overran.set()
            os.killpg(process.pid, signal.SIGKILL)

        alarm = threading.Timer(DEADLINE_SECONDS, stop)
        alarm.daemon = True
        alarm.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started_at
            busy_after = machine_busy_seconds()
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            alarm.cancel()
            if process.returncode is None:  # interrupted while waiting
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        errors.seek(0)
        output.seek(0)
        if process.returncode != 0:
            tail = "\n".join(errors.read().decode(errors="replace").splitlines()[-15:])
            why = (
                f"was stopped after {DEADLINE_SECONDS:.0f} s"
                if overran.is_set()
                else f"exited with status {process.returncode}"
            )
            raise BenchmarkError(f"{' '.join(command)}\n{why}; its last lines:\n{tail}")
        units_per_mib = 2**20 if sys.platform == "darwin" else 2**10  # getrusage(2)
        other_cores = None
        if busy_before is not None and busy_after is not None:
            own = usage.ru_utime + usage.ru_stime
            other_cores = max(0.0, busy_after - busy_before - own) / seconds
        return Finished(
            seconds, usage.ru_maxrss / units_per_mib, other_cores, output.read().decode()
        )


def find_poise(given: Path | None) -> Path:
    """Return the `poise` command: the given one, or else the one next to this Python."""
    path = given if given is not None else Path(sys.executable).with_name("poise")
    if not path.is_file():
        raise BenchmarkError(f"no poise at {path}: install it there, or pass --poise PATH")
    return path.absolute()


def find_peers_python(given: Path | None) -> Path:
    """Return the peers' Python: the given one, or else the one in .venv-peers."""
    path = given if given is not None else PEERS_PYTHON
    if not path.is_file():
        raise BenchmarkError(
            f"no peers' Python at {path}: create it with benchmarks/make_peers_environment.sh, or "
            "pass --peers-python PATH, or leave the peers out"
        )
    return path.absolute()


def poise_environment(cache_home: Path) -> dict[str, str]:
    """Return the environment in which poise keeps its compiled programs under `cache_home`."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache_home)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # else a cold cache would not be cold
    # As the peers, an installed package has its bytecode; an editable one must be able to write it.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


# The fields of summary.json that are kept: figures only, no paths.
SUMMARY_KEYS = (
    "solved",
    "solved_at_steps",
    "steps",
    "wall_seconds",
    "training_seconds",
    "steps_per_second",
    "evaluation",
    "verification_attempts",
    "training_solved_at_seconds",
    "training_solved_at_steps",
    "versions",
)


def poise_train(
    poise: Path, seed: int, cache_home: Path, options: Sequence[str] = ()
) -> tuple[Finished, dict[str, Any]]:
    """Run `poise train CartPole-v1` in a fresh directory; return its timing and its summary."""
    with tempfile.TemporaryDirectory(prefix="poise-benchmark-") as scratch:
        directory = Path(scratch) / "run"
        command = [str(poise), "train", "CartPole-v1", "--quiet", "--seed", str(seed), *options]
        command += ["--run-dir", str(directory)]
        finished = run(command, poise_environment(cache_home))
        summary = json.loads((directory / "summary.json").read_text())
    missing = [key for key in SUMMARY_KEYS if key not in summary]
    if missing:
        raise BenchmarkError(f"poise's summary.json lacks {', '.join(missing)}")
    return finished, {key: summary[key] for key in SUMMARY_KEYS}


def sb3_train(
    peers_python: Path,
    algorithm: str,
    seed: int,
    rule: str,
    max_steps: int | None = None,
    environment: str = "CartPole-v1",
) -> tuple[Finished, dict[str, Any]]:
    """Run Stable-Baselines3 once in the peers' environment; return its timing and its result."""
    with tempfile.TemporaryDirectory(prefix="poise-benchmark-") as scratch:
        result = Path(scratch) / "result.json"
        command = [str(peers_python), str(PEER_SCRIPT), "--algorithm", algorithm]
        command += ["--environment", environment]
        command += ["--seed", str(seed), "--rule", rule, "--json", str(result)]
        if max_steps is not None:
            command += ["--max-steps", str(max_steps)]
        finished = run(command, os.environ)
        return finished, json.loads(result.read_text())
