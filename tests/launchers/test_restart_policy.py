"""The restart policy: which workers are restarted, how often, and what happens otherwise."""

import pytest

from poise.launchers.restart_policy import Decision, RestartPolicy


def test_lost_workers_are_restarted_up_to_the_limit() -> None:
    policy = RestartPolicy(max_restarts=2)
    decisions = [policy.after_loss(is_last=False) for _ in range(4)]
    assert decisions == [Decision.RESTART] * 2 + [Decision.GO_ON] * 2
    assert policy.restarts == 2


@pytest.mark.parametrize(("max_restarts", "last"), [(0, Decision.FAIL), (1, Decision.RESTART)])
def test_without_the_last_worker_the_run_cannot_continue(max_restarts: int, last: Decision) -> None:
    assert RestartPolicy(max_restarts).after_loss(is_last=True) is last


@pytest.mark.parametrize("restart_on_error", [False, True])
@pytest.mark.parametrize("was_ready", [False, True])
def test_a_worker_that_raised_is_restarted_only_on_request(
    restart_on_error: bool, was_ready: bool
) -> None:
    """Unless the user allows restarts; a worker that could not be made is never restarted."""
    policy = RestartPolicy(1, restart_on_error)
    restarts = restart_on_error and was_ready
    decision = policy.after_error(was_ready=was_ready)
    assert decision is (Decision.RESTART if restarts else Decision.FAIL)
    assert policy.restarts == restarts


def test_losses_and_errors_are_counted_together() -> None:
    policy = RestartPolicy(2, restart_on_error=True)
    assert policy.after_error(was_ready=True) is Decision.RESTART
    assert policy.after_loss(is_last=True) is Decision.RESTART
    assert policy.after_error(was_ready=True) is Decision.FAIL
    assert policy.after_loss(is_last=False) is Decision.GO_ON


@pytest.mark.parametrize("before", [1, 5])
def test_restarts_before_a_resumption_count(before: int) -> None:
    """Even if a run that has had more restarts continues with a smaller limit."""
    policy = RestartPolicy(1, restarts=before)
    assert policy.after_loss(is_last=True) is Decision.FAIL
    assert policy.restarts == before
