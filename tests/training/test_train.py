"""Training end to end: a run's files, and how it ends."""

import dataclasses
import errno
import json
import math
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import poise
from poise.config import TrainConfig
from poise.errors import ConfigError, PoiseError, RunFolderError
from poise.learning.events import (
    EpisodeFinished,
    Evaluated,
    Event,
    Stopped,
    SummaryWritten,
    Updated,
)
from poise.learning.journal import RecordKind, StopReason, read_journal
from poise.observers.policy_writer import PolicyWriter
from poise.storage.files import write_json
from poise.storage.run_folder import RUN_FILES, config_to_json, load_config, load_summary

from ..small import ENDLESS, SMALL, TIMES, copy, rows, summary, train

PROMISED = {
    "environment": str,
    "algorithm": str,
    "seed": int,
    "solved": bool,
    "solved_at_steps": int | None,
    "steps": int,
    "episodes": int,
    "updates": int,
    "wall_seconds": float,
    "training_seconds": float,
    "seconds": dict,
    "steps_per_second": float,
    "workers": int,
    "evaluation": dict,
    "verification_attempts": int,
    "training_mean_100": float,
    "training_solved_at_seconds": float | None,
    "training_solved_at_steps": int | None,
    "restarts": int,
    "versions": dict,
}


def deterministic(folder: Path) -> dict[str, Any]:
    """Return everything in a run's folder that does not depend on the clock."""
    found: dict[str, Any] = {
        name: (folder / name).read_bytes()
        for name in RUN_FILES
        if name not in ("metrics.jsonl", "summary.json")
    }
    found["metrics.jsonl"] = [
        {key: value for key, value in row.items() if key != "wall_time"} for row in rows(folder)
    ]
    found["summary.json"] = {
        key: value for key, value in summary(folder).items() if key not in TIMES
    }
    return found


pytestmark = pytest.mark.usefixtures("shared_programs")


class TestFolder:
    def test_the_promised_files_and_nothing_half_written(self, serial_run: Path):
        names = {path.name for path in serial_run.iterdir()}
        assert set(RUN_FILES) <= names
        assert not [name for name in names if name.endswith(".tmp")]
        assert (serial_run / "learning_curve.png").read_bytes().startswith(b"\x89PNG\r\n")

    def test_the_summary_has_every_promised_key(self, serial_run: Path):
        found = summary(serial_run)
        for key, kind in PROMISED.items():
            assert isinstance(found[key], kind), key
        evaluation = found["evaluation"]
        assert {"mean", "standard_error", "episodes", "greedy", "cut"} <= evaluation.keys()
        assert evaluation["episodes"] == SMALL["verification_episodes"]
        assert evaluation["greedy"] is True
        assert evaluation["cut"] == 0
        assert {"python", "poise", "jax", "jaxlib", "gymnasium"} <= found["versions"].keys()

    def test_the_summary_agrees_with_itself_and_the_settings(self, serial_run: Path):
        found = summary(serial_run)
        for key in ("environment", "seed", "workers", "launcher"):
            assert found[key] == SMALL[key]
        assert found["algorithm"] == "a3c"
        assert found["target_return"] == 475.0
        assert SMALL["max_steps"] <= found["steps"] < SMALL["max_steps"] + 80
        assert found["training_seconds"] <= found["wall_seconds"]
        rate = found["steps"] / found["training_seconds"]
        assert found["steps_per_second"] == pytest.approx(rate, abs=0.1)
        assert (found["stopped"], found["failure"], found["restarts"]) == ("max_steps", None, 0)
        assert (found["solved"], found["solved_at_steps"]) == (False, None)
        assert found["training_solved_at_steps"] is None
        assert found["training_solved_at_seconds"] is None

    def test_the_seconds_of_the_phases_fit_into_the_wall_time(self, serial_run: Path):
        found = summary(serial_run)
        parts = found["seconds"]
        assert parts.keys() == {
            *("start_up", "compilation", "training", "selection", "verification", "baseline")
        }
        assert all(0 < parts[name] < found["wall_seconds"] for name in parts)
        assert sum(parts.values()) <= found["wall_seconds"] + 1e-5
        assert parts["training"] <= found["training_seconds"]

    def test_the_summary_agrees_with_the_journal(self, serial_run: Path):
        journal = read_journal(serial_run / "journal")
        assert journal.damage is None
        worker_updates = [one for one in journal.records if one.kind == RecordKind.UPDATE]
        found = summary(serial_run)
        assert len(worker_updates) == found["updates"]
        assert worker_updates[-1].value == found["steps"]
        last = journal.records[-1]
        assert (last.kind, last.detail) == (RecordKind.STOP, StopReason.MAX_STEPS)
        assert journal.header["versions"] == found["versions"]
        assert journal.header["processor"]

    def test_the_policies_can_be_loaded_and_are_those_of_the_run(self, tmp_path: Path):
        result = train(tmp_path / "run")
        best = poise.load(result.folder)
        assert np.array_equal(best.parameters, result.policy.parameters)
        final = poise.load(result.folder, which="final")
        report = poise.replay(result.folder)
        assert report.updates == result.summary["updates"]
        assert final.parameters.shape == best.parameters.shape
        assert result.summary == summary(result.folder) == load_summary(result.folder)
        assert result.reason == StopReason.MAX_STEPS
        assert result.solved is False


class TestMetrics:
    def test_one_row_for_every_episode(self, serial_run: Path):
        found = rows(serial_run, "episode")
        assert len(found) == summary(serial_run)["episodes"]
        assert [row["episode"] for row in found] == list(range(1, len(found) + 1))
        promised = {"wall_time", "steps", "worker", "return", "length", "moving_average", "loss"}
        assert all(promised <= row.keys() for row in found)
        assert {row["worker"] for row in found} == {0, 1}
        # Every step of CartPole is worth 1.
        assert [row["return"] for row in found] == [row["length"] for row in found]
        assert np.all(np.diff([row["steps"] for row in found]) >= 0)

    def test_the_averages_are_the_tutorial_s(self, serial_run: Path):
        found = rows(serial_run, "episode")
        average = found[0]["return"]
        for row in found:
            average = row["return"] if row is found[0] else 0.99 * average + 0.01 * row["return"]
            assert row["moving_average"] == pytest.approx(average, rel=1e-12)
        last = np.mean([row["return"] for row in found[-100:]])
        assert summary(serial_run)["training_mean_100"] == pytest.approx(last)

    def test_one_row_for_every_few_updates(self, serial_run: Path):
        found = rows(serial_run, "update")
        every = SMALL["record_every"]
        expected = range(every, summary(serial_run)["updates"] + 1, every)
        assert [row["update"] for row in found] == list(expected)
        for row in found:
            for key in ("loss", "policy_loss", "value_loss", "entropy", "gradient_norm"):
                assert math.isfinite(row[key])
            assert 0 <= row["entropy"] <= math.log(2) + 1e-6
        # Two workers in turn: each acts with the newest parameters before the other's update.
        assert {row["staleness"] for row in found} == {1}

    def test_one_row_for_every_evaluation(self, serial_run: Path):
        found = rows(serial_run, "evaluation")
        assert len(found) >= 2
        steps = [row["steps"] for row in found]
        assert np.all(np.diff([0, *steps[:-1]]) >= SMALL["evaluation_interval"])
        # The last one is at the end of the run.
        assert steps[-1] == summary(serial_run)["steps"]
        for row in found:
            assert row["selection"]["episodes"] == SMALL["selection_episodes"]
            assert row["verification"] is None
            assert row["solved"] is False

    def test_times_never_go_back(self, threads_run: Path):
        assert np.all(np.diff([row["wall_time"] for row in rows(threads_run)]) >= 0)


class TestSettings:
    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"max_gradient_norm": math.inf, "failure_reward": -10.5, "hidden_sizes": ()},
            {"max_seconds": 1.5, "target_return": -3.0, "hidden_sizes": (7, 9)},
            {"max_episodes": 10, "normalize_advantages": False, "seed": 2**63 - 1},
        ],
    )
    def test_they_are_read_back_from_the_file(self, tmp_path: Path, settings: dict[str, Any]):
        config = TrainConfig(**settings)
        write_json(tmp_path / "config.json", config_to_json(config, {"x": 1}))
        assert load_config(tmp_path) == (config, {"x": 1})

    def test_those_of_a_run_are_read_back(self, serial_run: Path):
        config, resolved = load_config(serial_run)
        assert dataclasses.asdict(config).items() >= SMALL.items()
        assert resolved["target_return"] == 475.0
        assert resolved["acting"] == "xla"

    def test_impossible_ones_leave_no_folder(self, tmp_path: Path):
        with pytest.raises(ConfigError):
            train(tmp_path / "run", discount=1.5)
        assert not (tmp_path / "run").exists()


class TestDeterminism:
    def test_one_seed_gives_one_run_to_the_last_bit(self, serial_run: Path, tmp_path: Path):
        again = train(tmp_path / "again").folder
        assert deterministic(again) == deterministic(serial_run)

    @pytest.mark.usefixtures("no_curves")
    def test_another_seed_gives_another_run(self, serial_run: Path, tmp_path: Path):
        other = train(tmp_path / "other", seed=SMALL["seed"] + 1).folder
        found, expected = deterministic(other), deterministic(serial_run)
        for name in ("journal", "final.safetensors", "metrics.jsonl"):
            assert found[name] != expected[name]

    @pytest.mark.usefixtures("no_curves")
    def test_evaluations_do_not_disturb_training(self, serial_run: Path, tmp_path: Path):
        """Seeds are split by purpose: the amount of evaluation does not change training."""
        other = train(tmp_path / "other", evaluation_interval=10**6, selection_episodes=2).folder
        assert rows(other, "episode")[-1]["return"] == rows(serial_run, "episode")[-1]["return"]
        final = [poise.load(one, which="final").parameters for one in (other, serial_run)]
        assert np.array_equal(*final)


@pytest.mark.usefixtures("no_curves")
class TestEnds:
    def test_a_budget_of_episodes(self, tmp_path: Path):
        found = train(tmp_path / "run", max_steps=None, max_episodes=30).summary
        assert found["stopped"] == "max_episodes"
        assert 30 <= found["episodes"] < 60
        assert found["evaluation"]["episodes"] == SMALL["verification_episodes"]

    @pytest.mark.parametrize("launcher", ["serial", "threads"])
    def test_a_budget_of_seconds(self, tmp_path: Path, launcher: str):
        # Nothing else ends it, however fast it learns.
        budget = {"max_steps": None, "max_seconds": 1e-3, "target_return": 1e9}
        result = train(tmp_path / "run", **budget, launcher=launcher)
        assert result.reason == StopReason.MAX_SECONDS
        assert result.summary["stopped"] == "max_seconds"
        poise.replay(result.folder)

    def test_solved(self, tmp_path: Path):
        found = train(tmp_path / "run", target_return=5.0).summary
        assert found["stopped"] == "solved"
        assert found["solved"] is True
        assert found["solved_at_steps"] == found["steps"]
        assert found["evaluation"]["mean"] >= 5.0
        assert found["verification_attempts"] == 1
        [evaluation] = rows(tmp_path / "run", "evaluation")
        assert evaluation["verification"] == found["evaluation"]

    def test_solved_but_not_stopped(self, tmp_path: Path):
        found = train(tmp_path / "run", target_return=5.0, stop_when_solved=False).summary
        assert found["stopped"] == "max_steps"
        assert found["solved"] is True
        assert found["solved_at_steps"] < found["steps"]
        assert found["evaluation"]["mean"] >= 5.0

    def test_training_that_reaches_the_target_says_when(self, tmp_path: Path):
        # Even the worst policy holds the pole for 8 steps.
        found = train(
            tmp_path / "run",
            max_steps=None,
            max_episodes=110,
            target_return=8.0,
            stop_when_solved=False,
        ).summary
        steps = found["training_solved_at_steps"]
        hundredth = rows(tmp_path / "run", "episode")[99]
        assert steps == hundredth["steps"]
        assert hundredth["wall_time"] <= found["training_solved_at_seconds"]
        assert found["training_solved_at_seconds"] <= found["wall_seconds"]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("launcher", ["serial", "threads"])
    def test_a_signal(self, tmp_path: Path, number: signal.Signals, launcher: str):
        before = signal.getsignal(number)
        result = train(
            tmp_path / "run",
            **ENDLESS,
            launcher=launcher,
            callbacks=[once(lambda: signal.raise_signal(number))],
        )
        assert signal.getsignal(number) is before
        reason = {signal.SIGINT: StopReason.INTERRUPTED, signal.SIGTERM: StopReason.TERMINATED}
        assert result.reason == reason[number]
        assert result.summary["stopped"] == reason[number].name.lower()
        assert result.summary["failure"] is None
        assert result.summary["evaluation"] is None
        assert set(RUN_FILES) <= {path.name for path in result.folder.iterdir()}
        assert poise.replay(result.folder).updates == result.summary["updates"]

    def test_a_signal_during_an_evaluation_ends_it(self, tmp_path: Path):
        """The evaluation, which would take minutes, is aborted between two steps."""
        result = train(
            tmp_path / "run",
            launcher="threads",
            selection_episodes=20_000,
            evaluation_interval=1,
            callbacks=[once(lambda: signal.raise_signal(signal.SIGINT), at=1)],
        )
        assert result.reason == StopReason.INTERRUPTED
        assert not rows(result.folder, "evaluation")
        poise.replay(result.folder)

    def test_a_second_signal_ends_at_once(self, tmp_path: Path):
        def twice() -> None:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", **ENDLESS, callbacks=[once(twice)])
        assert summary(tmp_path / "run")["failure"] == "KeyboardInterrupt"

    def test_outside_the_main_thread_there_are_no_signals_to_handle(self, tmp_path: Path):
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(train(tmp_path / "run")))
        thread.start()
        thread.join()
        assert results[0].reason == StopReason.MAX_STEPS


@pytest.mark.usefixtures("no_curves")
class TestFailures:
    @pytest.mark.parametrize("launcher", ["serial", "threads"])
    def test_what_was_learned_is_saved(self, tmp_path: Path, launcher: str):
        def fail() -> None:
            raise RuntimeError("the listener has gone")

        with pytest.raises(RuntimeError, match="the listener has gone"):
            train(tmp_path / "run", **ENDLESS, launcher=launcher, callbacks=[once(fail)])
        found = summary(tmp_path / "run")
        assert (found["stopped"], found["failure"]) == ("failed", "RuntimeError")
        assert found["evaluation"] is None
        assert set(RUN_FILES) <= {path.name for path in (tmp_path / "run").iterdir()}
        assert poise.replay(tmp_path / "run").updates == found["updates"]

    def test_a_full_disk_is_reported_in_one_sentence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        follow = PolicyWriter.__call__

        def fail(writer: PolicyWriter, when: float, event: Event) -> None:
            follow(writer, when, event)
            if isinstance(event, Updated) and event.update == 20:
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(PolicyWriter, "__call__", fail)
        with pytest.raises(PoiseError, match="No space left on device") as caught:
            train(tmp_path / "run", **ENDLESS)
        assert str(tmp_path / "run") in str(caught.value)
        assert caught.value.exit_code == 1
        assert poise.replay(tmp_path / "run").updates > 0

    def test_a_folder_in_use_is_refused_and_not_touched(self, serial_run: Path, tmp_path: Path):
        folder = copy(serial_run, tmp_path)
        before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        with pytest.raises(RunFolderError, match="not empty"):
            train(folder)
        after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        assert after == before

    def test_an_empty_folder_is_taken(self, tmp_path: Path):
        (tmp_path / "run").mkdir()
        train(tmp_path / "run", max_steps=100)
        assert (tmp_path / "run" / "summary.json").is_file()

    def test_a_default_folder_is_new_every_time(self, tmp_path: Path):
        settings = {**SMALL, "max_steps": 100, "preset": "none"}
        first, second = poise.train(**settings).folder, poise.train(**settings).folder
        assert first.resolve().parent == second.resolve().parent == tmp_path / "runs"
        assert first != second
        assert "CartPole-v1" in first.name


@pytest.mark.usefixtures("no_curves")
class TestEvents:
    def test_they_come_in_the_main_thread_and_in_order(self, tmp_path: Path):
        seen: list[tuple[float, Event]] = []

        def note(when: float, event: Event) -> None:
            assert threading.current_thread() is threading.main_thread()
            seen.append((when, event))

        found = train(tmp_path / "run", launcher="threads", callbacks=[note]).summary
        events = [event for _, event in seen]
        assert [when for when, _ in seen] == sorted(when for when, _ in seen)
        for kind, count in ((Updated, found["updates"]), (EpisodeFinished, found["episodes"])):
            assert sum(isinstance(event, kind) for event in events) == count
        updates = [event.update for event in events if isinstance(event, Updated)]
        assert updates == list(range(1, len(updates) + 1))
        assert any(isinstance(event, Evaluated) for event in events)
        *_, stop, end = (event for event in events if not _is_cut(event))
        assert isinstance(stop, Stopped)
        assert isinstance(end, SummaryWritten)


@pytest.mark.usefixtures("no_curves")
class TestOutput:
    def test_quiet_is_silent(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
        train(tmp_path / "run", quiet=True)
        assert capfd.readouterr() == ("", "")

    def test_otherwise_there_are_plain_lines(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        train(tmp_path / "run", quiet=False)
        out, err = capsys.readouterr()
        assert "steps/s" in out
        assert "episodes" in out
        assert "/ 475" in out
        assert "\x1b" not in out
        assert err == ""


@pytest.mark.slow
def test_it_learns(tmp_path: Path):
    """Without flags CartPole-v1 is solved; random play returns about 22, and never 475."""
    result = poise.train(
        "CartPole-v1", seed=0, workers=2, launcher="serial", run_dir=tmp_path / "run"
    )
    found = result.summary
    assert found["solved"] is True
    assert found["solved_at_steps"] <= 200_000
    # 200 if the first hundred are above the target by too little.
    assert found["evaluation"]["episodes"] in (100, 200)
    assert found["evaluation"]["mean"] >= 475.0
    # Also on seeds on which it was not selected: the interval of their mean reaches the target.
    assert poise.evaluate(result.policy, episodes=30, seed=12345).high >= 475.0
    policy = poise.load(result.folder)
    assert policy.act(np.array([0, 0, 0.2, 2.0], np.float32)) == 1, "it falls right: push right"
    assert policy.act(np.array([0, 0, -0.2, -2.0], np.float32)) == 0


def once(do: Callable[[], None], at: int = 20) -> Callable[[float, Event], None]:
    """Make a callback that does something once, after this many updates."""
    done: list[bool] = []

    def follow(when: float, event: Event) -> None:
        if isinstance(event, Updated) and event.update >= at and not done:
            done.append(True)
            do()

    return follow


def _is_cut(event: Event) -> bool:
    return type(event).__name__ == "CheckpointReady"


@pytest.mark.slow
def test_the_failure_reward_changes_the_loss_but_no_score(tmp_path: Path, serial_run: Path):
    plain = rows(serial_run, "episode")
    shaped = rows(train(tmp_path / "run", failure_reward=-50.0).folder, "episode")
    assert all(row["return"] == row["length"] for row in shaped)
    # The same seeds, the same first episode, another loss.
    assert shaped[0]["return"] == plain[0]["return"]
    assert shaped[0]["loss"] != plain[0]["loss"]


@pytest.mark.slow
def test_cartpole_v0_has_its_own_limit_and_threshold(tmp_path: Path):
    """Its deprecation warning, an error in these tests, is suppressed where it is raised."""
    result = train(tmp_path / "run", environment="CartPole-v0", evaluation_interval=10**6)
    assert result.summary["target_return"] == 195.0
    assert all(row["length"] <= 200 for row in rows(result.folder, "episode"))
    assert poise.evaluate(result.policy, episodes=5).maximum <= 200


def test_json_files_are_standard_json(serial_run: Path):
    """They contain no NaN and no Infinity, which are not JSON."""

    def refuse(text: str) -> None:
        raise AssertionError(text)

    for name in ("config.json", "summary.json"):
        json.loads((serial_run / name).read_text(), parse_constant=refuse)
    for line in (serial_run / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
