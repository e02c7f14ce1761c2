"""Fixtures of the tests of trust."""

from collections.abc import Iterator

import pytest

from ..sharing import draw_nothing, share_programs
from .runs import Interruption


@pytest.fixture(scope="module")
def shared_programs() -> Iterator[None]:
    """Runs of one module are compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        share_programs(patch)
        draw_nothing(patch)
        yield


@pytest.fixture
def interruption(monkeypatch: pytest.MonkeyPatch) -> Interruption:
    """Stops runs at points that are counted."""
    return Interruption(monkeypatch)
