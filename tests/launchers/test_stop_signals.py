"""Signals: the first one is recorded, the second has its usual effect."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from poise.launchers.stop_signals import StopSignals, interruptible
from poise.learning.journal import StopReason

REASONS = {
    signal.SIGINT: StopReason.INTERRUPTED,
    signal.SIGTERM: StopReason.TERMINATED,
    signal.SIGHUP: StopReason.TERMINATED,
}


class StrayError(Exception):
    """A signal that poise did not handle."""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[dict[signal.Signals, object]]:
    """Install handlers, so that a signal that poise does not handle does not end the tests."""

    def stray(number: int, frame: FrameType | None) -> None:
        raise StrayError(number)

    before = {number: signal.signal(number, stray) for number in REASONS}
    yield dict.fromkeys(REASONS, stray)
    for number, handler in before.items():
        signal.signal(number, handler)


def installed() -> dict[signal.Signals, object]:
    return {number: signal.getsignal(number) for number in REASONS}


@pytest.mark.parametrize("number", REASONS)
def test_the_first_signal_is_recorded(number: signal.Signals):
    with StopSignals() as signals:
        assert signals.reason is None
        signal.raise_signal(number)
        assert signals.reason == REASONS[number]


@pytest.mark.parametrize("first", REASONS)
@pytest.mark.parametrize("second", REASONS)
def test_the_second_signal_reaches_the_earlier_handler(
    first: signal.Signals, second: signal.Signals
):
    with StopSignals() as signals:
        signal.raise_signal(first)
        with pytest.raises(StrayError):
            signal.raise_signal(second)
        assert signals.reason == REASONS[first]


@pytest.mark.parametrize("raised", [False, True])
def test_handlers_are_restored(handlers: dict[signal.Signals, object], raised: bool):
    with StopSignals():
        assert all(installed()[number] is not handlers[number] for number in REASONS)
        if raised:
            signal.raise_signal(signal.SIGINT)
    assert installed() == handlers


def test_handlers_are_restored_after_an_error(handlers: dict[signal.Signals, object]):
    with pytest.raises(ValueError, match="oh"), StopSignals():
        raise ValueError("oh")
    assert installed() == handlers


@pytest.mark.parametrize("number", REASONS)
def test_ignored_signals_stay_ignored(number: signal.Signals):
    """As under nohup, or in a shell's background job."""
    signal.signal(number, signal.SIG_IGN)
    with StopSignals() as signals:
        signal.raise_signal(number)
    assert signals.reason is None
    assert signal.getsignal(number) == signal.SIG_IGN


def test_a_swallowed_interrupt_is_remembered():
    """Python drops exceptions of handlers in destructors; the run that begins must end at once."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with interruptible():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with StopSignals() as signals:
            assert signals.reason == StopReason.INTERRUPTED
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_is_raised():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGINT)


def test_somebody_elses_handler_stays(handlers: dict[signal.Signals, object]):
    with interruptible():
        assert installed() == handlers


def test_in_other_threads_nothing_happens(handlers: dict[signal.Signals, object]):
    found: list[object] = []

    def inside() -> None:
        with StopSignals() as signals:
            found.append((installed(), signals.reason))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [(handlers, None)]
