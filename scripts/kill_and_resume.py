#!/usr/bin/env python
"""Kill runs with ``kill -9`` and resume them: nothing that a checkpoint counted may be lost.

A run is started as ``poise train`` in a session of its own, its whole process group is killed,
``poise resume`` goes on and is killed again, until the run has been killed often enough; then it
finishes, and ``poise replay`` follows the whole of it. Half of the kills are aimed at a write: the
script watches for the temporary file of a checkpoint and kills as soon as it is there. Whether such
a kill really fell into the write is not assumed but counted: the temporary file is still there
afterwards, or the journal or the metrics end in the middle of a record.

    python scripts/kill_and_resume.py --times 100 --json kill_and_resume.json
"""

import argparse
import collections
import datetime
import hashlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from poise.agent.policy_file import read_metadata
from poise.errors import FileFormatError
from poise.learning.journal import RECORD_SIZE
from poise.storage.checkpoints.store import Offsets

KILLS_PER_RUN = 5
LIFE_SECONDS = 300.0
"""A life that neither ends nor reaches its moment in this time counts as hung, by default."""
GIVE_UP_AFTER = 3
"""More runs than so many that cannot be resumed: something is wrong altogether."""
WRITES_BEFORE_KILL = 4
"""The kill is aimed at one of the first so many checkpoints of a life."""
LAUNCHERS = ("threads", "processes")
SETTINGS = [
    # Large enough that writing a checkpoint takes a while.
    "--hidden-sizes",
    "256",
    "256",
    "--workers=2",
    "--envs-per-worker=8",
    "--rollout-length=20",
    "--evaluation-interval=30000",
    "--selection-episodes=2",
    "--verification-episodes=10",
    "--no-stop-when-solved",
    "--checkpoint-every=2000steps",
    "--quiet",
]


def poise(*arguments: str) -> list[str]:
    """A command line of poise, run by this Python."""
    return [sys.executable, "-m", "poise.cli", *arguments]


class Life:
    """One process group of a run, from its start to its end or its kill."""

    def __init__(self, command: list[str], folder: Path, log: Path, patience: float) -> None:
        self.folder = folder
        self.patience = patience
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=file, start_new_session=True
            )
        self.began = time.monotonic()

    def kill_at(self, moment: "Moment") -> bool:
        """Kill the group when the moment has come; false if the run ended before."""
        while self.process.poll() is None:
            if moment.has_come(self):
                os.killpg(self.process.pid, signal.SIGKILL)
                # It may have ended by itself in the meantime.
                return self.process.wait() == -signal.SIGKILL
            if time.monotonic() - self.began > self.patience:
                self.give_up()
        return False

    def end(self) -> int:
        """Wait for its end; returns the exit code."""
        try:
            return self.process.wait(self.patience)
        except subprocess.TimeoutExpired:
            self.give_up()

    def give_up(self) -> NoReturn:
        """Kill what hangs, and say so."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        raise TimeoutError(f"the run in {self.folder} hung, see {self.log}")

    def survivors(self) -> list[int]:
        """Processes of the session that are still there (zombies, too) a while after its end."""
        deadline = time.monotonic() + 10.0
        while (found := members(self.process.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found


class Moment:
    """When to kill."""

    def __init__(self, dice: random.Random, in_a_write: bool) -> None:
        self.in_a_write = in_a_write
        self._at_start = dice.random() < 0.25
        self._delay = dice.uniform(0.0, 6.0 if self._at_start else 1.0)
        self._nth = dice.randint(1, WRITES_BEFORE_KILL)
        self._pause = dice.uniform(0.0, 0.002)
        self._known: frozenset[str] | None = None
        self._since: float | None = None

    def has_come(self, life: Life) -> bool:
        """Asked again and again."""
        now = time.monotonic()
        if not self.in_a_write and self._at_start:
            return now - life.began >= self._delay
        names = list_folder(life.folder / "checkpoints")
        whole = frozenset(one for one in names if not one.endswith(".tmp"))
        mine = f".{life.process.pid}.tmp"
        if self._known is None:
            self._known = whole
        if self.in_a_write:
            if len(whole - self._known) >= self._nth - 1 and any(
                one.endswith(mine) for one in names
            ):
                time.sleep(self._pause)
                return True
            time.sleep(0.0001)
            return False
        if self._since is None and whole - self._known:
            self._since = now
        time.sleep(0.001)
        return self._since is not None and now - self._since >= self._delay


def list_folder(place: Path) -> list[str]:
    """Names in a folder; none where there is no folder."""
    try:
        return os.listdir(place)
    except OSError:
        return []


def members(session: int) -> list[int]:
    """Processes of a session, from /proc; workers have process groups of their own."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session:
                found.append(int(entry))
    return found


def memory_holders(creator: int) -> list[int]:
    """Processes that still hold shared memory of a process that has ended.

    Multiprocessing unlinks it as soon as it is there: no name in /dev/shm tells of it, but the
    mappings and descriptors of processes do.
    """
    name = f"/pym-{creator}-"
    return [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if name in read_text(folder / "maps")
        or any(name in target(folder / "fd" / one) for one in list_folder(folder / "fd"))
    ]


def read_text(path: Path) -> str:
    """A file of /proc; nothing where it has gone, or belongs to others."""
    try:
        return path.read_text()
    except OSError:
        return ""


def target(link: Path) -> str:
    """What a descriptor leads to."""
    try:
        return os.readlink(link)
    except OSError:
        return ""


class Kept:
    """What the newest checkpoint promises to keep: the metrics up to its offset."""

    def __init__(self, folder: Path) -> None:
        self.episodes = self.length = 0
        self.damaged = 0
        self.digest = ""
        for name in sorted(list_folder(folder / "checkpoints"), reverse=True):
            if not name.endswith(".safetensors") or name.startswith("."):
                continue
            path = folder / "checkpoints" / name
            try:
                content = path.read_bytes()
                metadata = read_metadata(content, str(path), "poise-checkpoint", "a checkpoint")
            except (OSError, FileFormatError):
                self.damaged += 1
                continue
            self.episodes = metadata["tally"][0]
            self.length = Offsets(*metadata["offsets"]).metrics_bytes
            break
        self.digest = prefix_digest(folder, self.length)

    def lost(self, folder: Path) -> int:
        """Episodes that are gone: all of the checkpoint's, if its part of the metrics changed."""
        return 0 if prefix_digest(folder, self.length) == self.digest else self.episodes


def prefix_digest(folder: Path, length: int) -> str:
    """Hash of the first bytes of the metrics."""
    if not length:
        return ""
    with (folder / "metrics.jsonl").open("rb") as file:
        return hashlib.sha256(file.read(length)).hexdigest()


def torn(folder: Path, pid: int) -> list[str]:
    """What the kill cut in the middle."""
    found = []
    names = [*list_folder(folder), *list_folder(folder / "checkpoints")]
    if any(one.endswith(f".{pid}.tmp") for one in names):
        found.append("temporary file")
    journal = folder / "journal"
    if journal.exists():
        content = journal.read_bytes()
        header = content.find(b"\n", content.find(b"\n") + 1) + 1
        if header and (len(content) - header) % RECORD_SIZE:
            found.append("journal")
    metrics = folder / "metrics.jsonl"
    if metrics.exists() and (content := metrics.read_bytes()) and not content.endswith(b"\n"):
        found.append("metrics")
    return found


def check_episodes(folder: Path) -> int:
    """Numbers that are missing or double among the episodes of a finished run."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    numbers = [row["episode"] for row in rows if row["kind"] == "episode"]
    expected = json.loads((folder / "summary.json").read_text())["episodes"]
    return len(set(range(1, expected + 1)) ^ set(numbers)) + len(numbers) - len(set(numbers))


def run_once(
    number: int,
    kills: int,
    scratch: Path,
    max_steps: int,
    patience: float,
    dice: random.Random,
) -> collections.Counter[str]:
    """One run, killed this many times at most."""
    launcher = LAUNCHERS[number % len(LAUNCHERS)]
    folder, log = scratch / f"run{number}", scratch / f"run{number}.log"
    count: collections.Counter[str] = collections.Counter(runs=1)
    kept: Kept | None = None
    begin = poise("train", "CartPole-v1", f"--run-dir={folder}", f"--launcher={launcher}")
    begin += [f"--max-steps={max_steps}", f"--seed={number}", *SETTINGS]
    go_on = poise("resume", str(folder), "--quiet")
    while True:
        # A run that was killed before it had written its settings is simply begun again.
        can_resume = (folder / "config.json").exists()
        life = Life(go_on if can_resume else begin, folder, log, patience)
        count["lives"] += 1
        aim = (number * KILLS_PER_RUN + count["kills"]) % 2 == 1
        moment = Moment(dice, in_a_write=aim)
        if count["kills"] < kills and life.kill_at(moment):
            count["kills"] += 1
            count[f"kills {launcher}"] += 1
            hit = torn(folder, life.process.pid)
            count["kills aimed at a write"] += aim
            count["kills that hit a write"] += bool(hit)
            count["aimed kills that hit a write"] += aim and bool(hit)
            for one in hit:
                count[f"torn: {one}"] += 1
            count["zombies"] += len(life.survivors())
            count["leaked shared memory"] += len(memory_holders(life.process.pid))
            if kept is not None:
                count["episodes lost"] += kept.lost(folder)
            kept = Kept(folder)
            count["damaged checkpoints"] += kept.damaged
            count["kills before the first checkpoint"] += kept.length == 0
            continue
        code = life.end()
        count["zombies"] += len(life.survivors())
        count["leaked shared memory"] += len(memory_holders(life.process.pid))
        if code != 0:
            count["not resumable"] += 1
            print(f"run {number} ended with {code}:\n{log.read_text()[-2000:]}", file=sys.stderr)
            return count
        break
    if kept is not None:
        count["episodes lost"] += kept.lost(folder)
    count["episodes out of order"] += check_episodes(folder)
    replayed = subprocess.run(poise("replay", str(folder)), capture_output=True, text=True)
    count["replays that differ"] += replayed.returncode != 0
    if replayed.returncode:
        print(f"run {number}: {replayed.stderr}", file=sys.stderr)
    summary = json.loads((folder / "summary.json").read_text())
    count["steps"] += summary["steps"]
    count["episodes"] += summary["episodes"]
    left = [*list_folder(folder), *list_folder(folder / "checkpoints")]
    count["temporary files left at the end"] += sum(one.endswith(".tmp") for one in left)
    return count


MUST_BE_ZERO = (
    "not resumable",
    "hung",
    "episodes lost",
    "episodes out of order",
    "replays that differ",
    "damaged checkpoints",
    "zombies",
    "leaked shared memory",
)
FIGURES = (
    "runs",
    "lives",
    "kills",
    *(f"kills {launcher}" for launcher in LAUNCHERS),
    "kills before the first checkpoint",
    "kills aimed at a write",
    "aimed kills that hit a write",
    "kills that hit a write",
    "torn: temporary file",
    "torn: journal",
    "torn: metrics",
    "temporary files left at the end",
    "steps",
    "episodes",
)


def main() -> int:
    """Kill, resume, count; exit code 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=100, help="kills in all")
    parser.add_argument("--max-steps", type=int, default=60_000, help="of each run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--patience",
        type=float,
        default=LIFE_SECONDS,
        help="seconds after which a life counts as hung; more on a machine that does other work",
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    dice = random.Random(arguments.seed)
    total: collections.Counter[str] = collections.Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="poise-kill-") as scratch:
        number = 0
        while total["kills"] < arguments.times:
            kills = min(KILLS_PER_RUN, arguments.times - total["kills"])
            try:
                total += run_once(
                    number,
                    kills,
                    Path(scratch),
                    arguments.max_steps,
                    arguments.patience,
                    dice,
                )
            except TimeoutError as error:
                print(error, file=sys.stderr)
                total["hung"] += 1
                total["kills"] += 1
            number += 1
            if total["not resumable"] > GIVE_UP_AFTER:
                break
            print(f"{total['kills']} of {arguments.times} kills, {number} runs", flush=True)
    figures = {name: total[name] for name in (*FIGURES, *MUST_BE_ZERO)}
    for name, value in figures.items():
        print(f"{name:36s} {value:10,d}{'   must be 0' if name in MUST_BE_ZERO else ''}")
    if arguments.json:
        content = {
            "date": datetime.date.today().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "command": " ".join(sys.argv),
            "seconds": round(time.monotonic() - began, 1),
            **figures,
        }
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")
    return int(any(total[name] for name in MUST_BE_ZERO))


if __name__ == "__main__":
    sys.exit(main())
