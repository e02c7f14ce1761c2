"""The report: the files and the result that a run leaves when it has ended."""

from typing import Any

from poise.evaluation.phase_times import PhaseTimes
from poise.learning.evaluation_result import Score
from poise.learning.events import SummaryWritten
from poise.learning.journal import StopReason
from poise.learning.parameter_server import ParameterServer
from poise.reports.curve import draw_curve
from poise.reports.findings import RunFacts, find
from poise.reports.plot_run import Draw, plot_folder
from poise.storage.files import write_json
from poise.training.components import RunComponents
from poise.training.result import TrainResult
from poise.training.run_inputs import RunPlace
from poise.training.run_records import RunRecords
from poise.training.summary import RunOutcome, summarise

__all__ = ["RunReport"]

_USED_UP = (StopReason.MAX_STEPS, StopReason.MAX_EPISODES, StopReason.MAX_SECONDS)


class RunReport:
    """Writes the final files of a run.

    Args:
        components: the run's components.
        place: the run's folder.
        records: the run's records.
        phase_times: how this process spent its time.
        draw: draws the learning curve; by default in this process.
    """

    def __init__(
        self,
        components: RunComponents,
        place: RunPlace,
        records: RunRecords,
        phase_times: PhaseTimes,
        draw: Draw | None,
    ) -> None:
        self._components = components
        self._folder = place.folder
        self._records = records
        self._phase_times = phase_times
        self._draw = draw if place.keep else _draw_nothing

    @property
    def draws_here(self) -> bool:
        """Whether the curve is drawn in this process."""
        return self._draw is None

    def write(self, server: ParameterServer, outcome: RunOutcome) -> TrainResult:
        """Write policies, learning curve and summary.

        Args:
            server: the server, stopped.
            outcome: how the run ended.
        """
        records = self._records
        final = server.snapshot()
        best = server.best or final
        records.policy_writer.write_policy("final", final)
        records.policy_writer.write_policy("best", best)
        summary = summarise(self._components, server, records.recorder, self._phase_times, outcome)
        plot_folder(self._folder, summary=summary, draw=self._draw or draw_curve)
        summary["wall_seconds"] = round(records.recorder.wall_seconds, 6)
        summary["findings"] = [] if summary["solved"] else self._find(server, summary, outcome)
        write_json(self._folder / "summary.json", summary)
        records.dispatcher.tell(SummaryWritten(self._folder, summary))
        return TrainResult(self._folder, summary, records.policy(best), outcome.reason)

    def _find(
        self, server: ParameterServer, summary: dict[str, Any], outcome: RunOutcome
    ) -> list[str]:
        """Return findings about why a run did not solve its environment."""
        seconds = summary["seconds"]
        baseline: Score | None = outcome.baseline
        return find(
            RunFacts(
                self._records.history,
                server.steps,
                summary["random_baseline"],
                self._components.target_return,
                server.stop_reason in _USED_UP,
                seconds["selection"] + seconds["verification"] + seconds["baseline"],
                summary["wall_seconds"],
                outcome.score,
                0.0 if baseline is None else baseline.deviation,
            )
        )


def _draw_nothing(*_: object) -> None:
    """Draw no learning curve, for a run whose files are not kept."""
