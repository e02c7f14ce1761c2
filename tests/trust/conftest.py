"""Fixtures for the tests of trust."""

from collections.abc import Iterator

import pytest

from ..sharing import draw_nothing, share_programs
from .runs import Interruption


@pytest.fixture(scope="module")
def shared_programs() -> Iterator[None]:
    """Compile the programs of a module's runs only once."""
    with pytest.MonkeyPatch.context() as patch:
        share_programs(patch)
        draw_nothing(patch)
        yield


@pytest.fixture
def interruption(monkeypatch: pytest.MonkeyPatch) -> Interruption:
    """Stop runs after a given number of updates or evaluation steps."""
    return Interruption(monkeypatch)
