"""Memory after a run: nothing remains that only Python's cyclic garbage collector would free.

The collector counts Python objects. A few of them may hold megabytes of XLA's memory, so a process
that trains repeatedly would grow by many runs before the collector is triggered.
"""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.extend.core import Jaxpr
from matplotlib.figure import Figure

from poise.evaluation.evaluator import Evaluator
from poise.learning.host_worker import HostProgram
from poise.learning.jax_worker import JaxProgram
from poise.learning.parameter_server import ParameterServer
from poise.maths.distributions import categorical_sample
from poise.observers.recorder import Recorder
from poise.training.components import RunComponents
from poise.training.training_run import TrainingRun

from ..small import train

PARTS = (TrainingRun, RunComponents, JaxProgram, HostProgram, ParameterServer, Evaluator, Recorder)


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Disable the garbage collector, so only objects without references are freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def living(kind: type) -> int:
    return sum(isinstance(one, kind) for one in gc.get_objects())


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(
    "settings",
    [
        {"launcher": "serial"},
        pytest.param({"launcher": "threads"}, marks=pytest.mark.slow),
        pytest.param(
            {"launcher": "threads", "world": "copies", "max_steps": 200}, marks=pytest.mark.slow
        ),
    ],
    ids=["serial", "threads", "hosted"],
)
def test_every_part_of_a_run_is_freed_at_its_end(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[type, weakref.ref[Any]]] = []

    def watch(kind: type) -> None:
        begin = kind.__init__

        def noting(self: Any, *arguments: Any, **named: Any) -> None:
            made.append((kind, weakref.ref(self)))
            begin(self, *arguments, **named)

        monkeypatch.setattr(kind, "__init__", noting)

    for kind in PARTS:
        watch(kind)
    result = train(tmp_path / "run", **settings)
    assert result.summary["steps"]
    # A run uses only one of the two programs.
    assert len({kind for kind, _ in made}) == len(PARTS) - 1
    assert [reference() for _, reference in made if reference() is not None] == []


@pytest.mark.slow
@pytest.mark.usefixtures("uncollected")
def test_curves_share_one_figure(tmp_path: Path) -> None:
    train(tmp_path / "one")
    before = living(Figure)
    train(tmp_path / "two")
    assert living(Figure) == before == 1


@pytest.mark.slow
def test_jax_keeps_nothing_of_a_sample_in_another_program() -> None:
    logits = np.zeros(3, np.float32)

    def compile_another() -> int:
        jax.jit(lambda noise: categorical_sample(logits, noise)).lower(logits).compile()
        gc.collect()
        return living(Jaxpr)

    compile_another()
    before = compile_another()
    for _ in range(3):
        after = compile_another()
    assert after == before
