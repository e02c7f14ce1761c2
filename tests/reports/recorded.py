"""Recorded histories of real runs, thinned out, and the facts at their end.

``python tests/reports/recorded.py RUN tests/reports/histories/NAME.json`` writes one from a run.
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from poise.evaluation.evaluator import FinalScore
from poise.learning.evaluation_result import EvaluationResult, Score
from poise.learning.events import EpisodeFinished, Evaluated, Event, Updated
from poise.observers.history import History
from poise.reports.findings import RunFacts
from poise.trajectory import Snapshot

FOLDER = Path(__file__).parent / "histories"
MOST = 300
"""Number of rows kept of each kind; all evaluations are kept."""
NO_SNAPSHOT = Snapshot(np.int64(0), np.zeros(0, np.float32), ())


class Recorded(NamedTuple):
    """A recorded run: its rows, and the facts at its end."""

    rows: list[dict[str, Any]]
    summary: dict[str, Any]

    def facts(self) -> RunFacts:
        """The facts from which the findings are derived."""
        history = History()
        for event in _events(self.rows):
            history(0.0, event)
        summary = self.summary
        score = summary["evaluation"]
        spent = summary["seconds"]
        return RunFacts(
            history,
            summary["steps"],
            summary["random_baseline"],
            summary["target_return"],
            summary["stopped"].startswith("max"),
            spent["selection"] + spent["verification"] + spent["baseline"],
            summary["wall_seconds"],
            FinalScore(Score(**score), False, True, None, 10_000),
        )


def load(name: str) -> Recorded:
    """Load a recording by name."""
    return Recorded(**json.loads((FOLDER / f"{name}.json").read_text()))


def _events(rows: list[dict[str, Any]]) -> list[Event]:
    best = -np.inf
    found: list[Event] = []
    for row in rows:
        if row["kind"] == "episode":
            found.append(
                EpisodeFinished(
                    0, 0, row["steps"], row["return"], 0, row["moving_average"], loss=0.0
                )
            )
        elif row["kind"] == "update":
            metrics = {name: row[name] for name in ("entropy", "value_loss")}
            found.append(Updated(0, 0, row["steps"], metrics, 0, 0.0))
        else:
            score = Score(**row["selection"])
            result = EvaluationResult(score, None, False)
            is_best, best = score.mean > best, max(best, score.mean)
            found.append(Evaluated(0, row["steps"], result, is_best, NO_SNAPSHOT))
    return found


def _brief(value: Any) -> Any:
    """Round to six digits, which is enough for the findings."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def main() -> None:
    """Write a recording of a run."""
    run, output = Path(sys.argv[1]), Path(sys.argv[2])
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept: list[dict[str, Any]] = []
    fields = {
        "episode": ("kind", "steps", "return", "moving_average"),
        "update": ("kind", "steps", "entropy", "value_loss"),
        "evaluation": ("kind", "steps", "selection"),
    }
    for kind, names in fields.items():
        of_kind = [row for row in rows if row["kind"] == kind]
        stride = 1 if kind == "evaluation" else -(-len(of_kind) // MOST)
        kept.extend({name: _brief(row[name]) for name in names} for row in of_kind[::stride])
    kept.sort(key=lambda row: row["steps"])
    summary = json.loads((run / "summary.json").read_text())
    names = (
        *("environment", "seed", "steps", "random_baseline", "target_return", "stopped"),
        *("evaluation", "seconds", "wall_seconds", "versions"),
    )
    lines = ",\n".join(json.dumps(row) for row in kept)
    ends = json.dumps({name: summary[name] for name in names})
    output.write_text(f'{{"summary": {ends},\n"rows": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
