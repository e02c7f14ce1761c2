"""A run's records: its journal, and the observers that write and show its events."""

from poise.agent.policy import Policy
from poise.evaluation.evaluator import Evaluator
from poise.learning.journal import Journal
from poise.observers.dispatcher import Dispatcher
from poise.observers.endless_episodes import EndlessEpisodes
from poise.observers.history import History
from poise.observers.policy_writer import PolicyWriter
from poise.observers.progress import Progress
from poise.observers.recorder import Recorder
from poise.storage.checkpoints.store import Checkpoint
from poise.training.components import RunComponents
from poise.training.run_inputs import Audience, RunPlace
from poise.training.runtime import processor_model, versions
from poise.trajectory import Snapshot

__all__ = ["RunRecords"]


class RunRecords:
    """Records and display of a run.

    Args:
        components: the run's components.
        place: the run's folder.
        started: monotonic time at which the process started.
        audience: recipients of events and output.
        evaluator: evaluates the run's snapshots.
        checkpoint: where the run resumes; None for a new run.

    Attributes:
        journal: records of what the server did.
        recorder: writes the journal and the metrics.
        policy_writer: writes policies.
        history: data for the findings about a run.
        dispatcher: passes the server's events on to all observers.
        callbacks: the user's own.
    """

    def __init__(
        self,
        components: RunComponents,
        place: RunPlace,
        started: float,
        audience: Audience,
        evaluator: Evaluator,
        checkpoint: Checkpoint | None,
    ) -> None:
        config = components.config
        self._evaluator = evaluator
        self.callbacks = audience.callbacks
        self.policy_writer = PolicyWriter(
            place.folder, evaluator, components.agent, config.seed, place.keep
        )
        taken, best = (0, 0), None
        self.journal = Journal()
        if checkpoint is not None:
            run_state = checkpoint.run_state
            taken = (run_state.steps, run_state.episode_statistics.episodes)
            best = run_state.best_policy.result
            self.journal = Journal(run_state.journal_records, run_state.journal_checksum)
        self._progress = (
            None
            if audience.quiet
            else Progress(config, components.target_return, *taken, preset=audience.preset)
        )
        self.history = History(best and best.selection.mean)
        self.recorder = Recorder(
            place.folder,
            {"versions": versions(), "processor": processor_model()},
            self.journal,
            config.record_every,
            started,
            checkpoint.offsets if checkpoint else None,
        )
        limited = components.measured.has_time_limit or config.evaluation_step_limit is not None
        endless = EndlessEpisodes(config.environment, limited)
        progress = () if self._progress is None else (self._progress,)
        self.dispatcher = Dispatcher(
            started,
            self.recorder,
            self.policy_writer,
            (*progress, self.history, endless, *audience.observers),
            self.callbacks,
        )

    def policy(self, snapshot: Snapshot) -> Policy:
        """Return a frozen copy of a snapshot's policy."""
        return self._evaluator.policy(snapshot)

    def show_progress(self) -> None:
        """Show the progress of the current evaluation."""
        if self._progress is not None:
            self._progress.tell(self._evaluator.activity)

    def close_progress(self) -> None:
        """Close the progress display."""
        if self._progress is not None:
            self._progress.close()
