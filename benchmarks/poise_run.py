"""One run of `poise train` as a fresh process, and what it wrote."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import processes
import report


class PoiseRun(NamedTuple):
    """What a finished run wrote."""

    finished: processes.Finished
    summary: dict[str, Any]
    resolved: dict[str, Any]
    """What was decided for the run, from its ``config.json``."""
    evaluations: list[dict[str, Any]]
    """The evaluations' rows of ``metrics.jsonl``."""

    def row(self) -> dict[str, Any]:
        """Return the fields that a table of results is made of."""
        summary, resolved = self.summary, self.resolved
        score = summary["evaluation"] or {}
        return {
            "preset": resolved["preset"],
            "world": resolved["world"],
            "algorithm": summary["algorithm"],
            "policy": summary["policy"],
            "mean": score.get("mean"),
            "standard_error": score.get("standard_error"),
            "episodes": score.get("episodes"),
            "sampled": (summary["sampled_evaluation"] or {}).get("mean"),
            "training_mean_100": summary["training_mean_100"],
            "steps": summary["steps"],
            "seconds": round(self.finished.seconds, 1),
            "training_seconds": summary["training_seconds"],
            "stopped": summary["stopped"],
            "versions": summary["versions"],
            "processor": report.processor_name(),
        }


def train(poise: Path, environment: str, options: Sequence[str], cache: Path) -> PoiseRun:
    """Run `poise train ENVIRONMENT` with these options to its end."""
    scratch = Path(tempfile.mkdtemp(prefix="poise-benchmark-"))
    try:
        folder = scratch / "run"
        command = [str(poise), "train", environment, "--quiet", *options]
        command += ["--run-dir", str(folder)]
        finished = processes.run(command, processes.poise_environment(cache))
        summary = json.loads((folder / "summary.json").read_text())
        resolved = json.loads((folder / "config.json").read_text())["resolved"]
        rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        evaluations = [row for row in rows if row["kind"] == "evaluation"]
    finally:
        shutil.rmtree(scratch)
    return PoiseRun(finished, summary, resolved, evaluations)


class ResumableTable:
    """Rows of a JSON Lines file, one a run; what is there already is not run again.

    Args:
        path: the file.
        keys: the fields that tell one run from another.
    """

    def __init__(self, path: Path, keys: tuple[str, ...]) -> None:
        self.path = path
        self._keys = keys

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows so far."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def fill(
        self, poise: Path, wanted: Sequence[dict[str, Any]], options: Any, jobs: int = 1
    ) -> None:
        """Run what is missing.

        Args:
            poise: the command.
            wanted: the keys' values of each run; ``environment`` is one of them.
            options: (the keys' values) -> flags of `poise train`.
            jobs: how many runs at the same time.
        """
        # Some runs take far longer than those of other benchmarks.
        processes.DEADLINE_SECONDS = 6 * 3600.0
        done = {tuple(row.get(key) for key in self._keys) for row in self.rows()}
        missing = [one for one in wanted if tuple(one[key] for key in self._keys) not in done]
        with (
            tempfile.TemporaryDirectory(prefix="poise-cache-") as cache,
            ThreadPoolExecutor(jobs) as threads,
        ):

            def run(one: dict[str, Any]) -> dict[str, Any]:
                made = train(poise, one["environment"], options(one), Path(cache))
                curve = [[row["steps"], row["selection"]["mean"]] for row in made.evaluations]
                row = {**made.row(), **one, "curve": curve}
                with self.path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                return row

            for row in threads.map(run, missing):
                named = ", ".join(str(row[key]) for key in self._keys if row[key] is not None)
                report.progress(f"{named}: {row['mean']} after {row['steps']:,} steps")
