"""Replay: following a run's journal serially must give the same parameters, bit for bit."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from poise.agent.policy_file import parameter_hash
from poise.errors import FileFormatError, ReplayMismatchError, RunFolderError
from poise.launchers.stop_signals import handlers_kept
from poise.learning.journal import (
    JournalFile,
    RecordKind,
    read_journal,
)
from poise.learning.parameter_server import (
    ServerSettings,
)
from poise.replaying.comparison import compare_parameters, has_final
from poise.replaying.following import CheckingJournal, ReplayedEvaluator, follow
from poise.settings import known_arguments
from poise.storage.config_digest import require_unchanged
from poise.storage.run_folder import load_config, load_resumptions, run_path, with_decisions
from poise.storage.trust import EnvironmentFactory, env_factory_from_file
from poise.training.assembly import build_components
from poise.training.components import RunComponents
from poise.training.jax_settings import adopt_settings, recorded_settings, settings_restored
from poise.training.measured_traits import MeasuredTraits
from poise.training.provenance import differences
from poise.training.runtime import prepare_jax

__all__ = ["ReplayReport", "replay"]


class ReplayReport(NamedTuple):
    """Report on a replay that agreed with its run.

    Attributes:
        records: number of journal records that were repeated.
        steps: number of environment steps that were repeated.
        updates: number of updates that were applied.
        final_hash: SHA-256 of the final parameters.
        compared: the files whose parameters were compared; a run that was killed, or whose disk
            was full, may have left none.
        warnings: differences of this machine that might have changed the result.
        announced: the run announced at its start that it cannot be replayed exactly, although it
            could be.
    """

    records: int
    steps: int
    updates: int
    final_hash: str
    compared: tuple[str, ...]
    warnings: tuple[str, ...]
    announced: bool = False


@known_arguments
@settings_restored()
@handlers_kept()
def replay(
    run: str | Path, *, environment: EnvironmentFactory | None = None, trust: bool = False
) -> ReplayReport:
    """Repeat a run from its journal and compare the results.

    Args:
        run: a run's folder.
        environment: makes the environment, instead of the one that the run's file names.
        trust: import the environment that the run's file names by an import path.

    Raises:
        ReplayMismatchError: a record or the parameters differ, or were altered.
        RunFolderError: there is no run in the folder.
        FileFormatError: its settings are damaged, or were changed after the run had written them.
    """
    folder = run_path(run).absolute()
    config, resolved = load_config(folder)
    require_unchanged(folder)
    journal = _read(folder)
    prepare_jax()
    adopt_settings(recorded_settings(resolved))
    env_factory = env_factory_from_file(config.environment_choice, environment, trust)
    components = build_components(with_decisions(config, resolved), env_factory)
    components = dataclasses.replace(components, measured=MeasuredTraits.recorded(resolved))
    warnings = differences(journal.header, resolved, components)
    components.compile()
    checking = CheckingJournal(journal.records)
    evaluator = components.evaluator()
    try:
        segments = _segments(components, load_resumptions(folder))
        server = components.server(
            ReplayedEvaluator(evaluator, checking), lambda event: None, checking, segments.pop(-1)
        )
        with _as_announced(resolved):
            follow(server, components, checking, segments)
    finally:
        evaluator.close()
        components.close()
    has_stopped = bool(journal.records) and journal.records[-1].kind == RecordKind.STOP
    # A kill or a full disk may damage the last record; then there are no final parameters.
    torn_at_the_end = journal.torn and not has_stopped and not has_final(folder)
    if journal.damage is not None and not torn_at_the_end:
        raise ReplayMismatchError(f"the journal differs: {journal.damage}")
    with _as_announced(resolved):
        compared = compare_parameters(folder, server, has_stopped)
    return ReplayReport(
        records=checking.length,
        steps=server.steps,
        updates=server.version,
        final_hash=parameter_hash(np.asarray(server.snapshot().parameters)),
        compared=compared,
        warnings=warnings,
        announced=resolved.get("replayable") is False,
    )


@contextlib.contextmanager
def _as_announced(resolved: dict[str, Any]) -> Iterator[None]:
    """Add to a mismatch that it was to be expected, if the run had announced it."""
    try:
        yield
    except ReplayMismatchError as error:
        if resolved.get("replayable") is not False:
            raise
        raise ReplayMismatchError(
            f"{error}; this was to be expected: the run announced at its start that it cannot be "
            "replayed exactly"
        ) from error


def _read(folder: Path) -> JournalFile:
    path = folder / "journal"
    try:
        return read_journal(path)
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}") from error
    except FileFormatError as error:
        raise ReplayMismatchError(f"the journal was altered: {error}") from error


def _segments(
    components: RunComponents, resumptions: list[dict[str, Any]]
) -> dict[int, ServerSettings]:
    """Return the server's settings by the record at which they begin, -1 for the first.

    Only the last budgets ended the run that the journal records; earlier ones were replaced.
    """
    # The journal says which bad gradient was one too many.
    config = dataclasses.replace(components.config, max_bad_gradients=2**62)
    segments = {-1: components.server_settings(config)}
    for one in resumptions:
        budgets = {name: value for name, value in one.items() if name != "record"}
        changed = dataclasses.replace(config, **budgets)
        segments[one["record"]] = components.server_settings(changed)
    last = max(segments)
    return {
        record: settings
        if record == last
        else settings._replace(max_steps=None, max_episodes=None, stop_when_flat=None)
        for record, settings in segments.items()
    }
