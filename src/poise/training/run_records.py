"""A run's records: its journal, and the observers that write and show what happens in it."""

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
    """What is kept and shown of a run.

    Args:
        components: the run's parts.
        place: its folder.
        started: monotonic time at which the process started.
        audience: who sees what happens.
        evaluator: of the run's snapshots.
        checkpoint: where the run goes on; None begins.

    Attributes:
        journal: what the server did.
        recorder: writes journal and metrics.
        policy_writer: writes policies.
        history: what a curve is drawn from.
        dispatcher: passes the server's events on to all of them.
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
            None if audience.quiet else Progress(config, components.target_return, *taken)
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
        """A frozen copy of what a snapshot does."""
        return self._evaluator.policy(snapshot)

    def show_progress(self) -> None:
        """Show how far an evaluation has come."""
        if self._progress is not None:
            self._progress.tell(self._evaluator.activity)

    def close_progress(self) -> None:
        """Show nothing any more."""
        if self._progress is not None:
            self._progress.close()
