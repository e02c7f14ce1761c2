"""Registration of EnvPool's functions in XLA; what they do is tested with EnvPool installed."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from poise.envs import pool_calls


def test_threads_that_trace_side_by_side_register_a_function_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registered: list[str] = []
    both = threading.Barrier(2)

    def register(target: str, *_: Any) -> tuple[None, None]:
        registered.append(target)
        with contextlib.suppress(threading.BrokenBarrierError):
            # Without a lock, the other thread gets here too.
            both.wait(timeout=0.3)
        return None, None

    monkeypatch.setattr(pool_calls, "_targets", {})
    monkeypatch.setattr(pool_calls, "_register", register)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: pool_calls.step_target("Kite-v0", None), range(2)))
    assert found == ["poise_envpool_Kite-v0"] * 2
    assert registered == ["poise_envpool_Kite-v0"]
