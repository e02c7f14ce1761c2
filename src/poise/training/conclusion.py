"""The conclusion of a run: scores of its best policy and of random actions."""

from poise.errors import NotFiniteError
from poise.evaluation.evaluator import FinalScore
from poise.evaluation.phase_times import PhaseTimes
from poise.evaluation.supervision import EvaluationSupervisor
from poise.learning.evaluation_result import Score
from poise.learning.journal import StopReason
from poise.learning.parameter_server import EvaluationAborted, ParameterServer
from poise.training.components import RunComponents
from poise.training.run_inputs import RunPlace

__all__ = ["Conclusion"]

_INTERRUPTIONS = (StopReason.INTERRUPTED, StopReason.TERMINATED)


class Conclusion:
    """Computes the scores at the end of a run.

    Args:
        components: the run's components.
        place: the run's folder, for messages.
        supervisor: runs the evaluations.
        phase_times: records how many seconds the baseline takes.
    """

    def __init__(
        self,
        components: RunComponents,
        place: RunPlace,
        supervisor: EvaluationSupervisor,
        phase_times: PhaseTimes,
    ) -> None:
        self._components = components
        self._place = place
        self._supervisor = supervisor
        self._phase_times = phase_times
        self._is_reached = False
        self.score: FinalScore | None = None
        """Score of the best policy; None if there was no time for it."""
        self.baseline: Score | None = None
        """Score of random actions."""
        self.aborted_by: StopReason | None = None
        """Why the best policy was not scored; None if it was."""

    def reach(self, server: ParameterServer) -> None:
        """Score the best policy and random actions, once, unless the run was interrupted.

        Raises:
            NotFiniteError: too many gradients were not finite.
        """
        if self._is_reached:
            return
        self._is_reached = True
        config = self._components.config
        if server.stop_reason == StopReason.NOT_FINITE:
            raise NotFiniteError(
                f"{server.bad_gradients} gradients were not finite (--max-bad-gradients "
                f"{config.max_bad_gradients}); they were not applied"
                + self._place.if_kept(
                    f", and the last offending batch is in {self._place.folder}: poise inspect "
                    "shows it"
                )
            )
        if server.stop_reason in _INTERRUPTIONS:
            return
        try:
            self.score = self._supervisor.final_score(server)
        except EvaluationAborted as aborted:
            # Without a score the run did not end normally, whatever ended its training.
            self.aborted_by = aborted.reason
            return
        with self._phase_times.on("baseline"):
            training_ratio = self._components.placement.training_ratio
            budget = [server.steps // (2 * training_ratio)] if training_ratio else []
            self.baseline = self._supervisor.random_baseline(
                self._components.env_factory, config, *budget
            )
