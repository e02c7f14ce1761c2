"""The command line: its output, its errors and its exit codes.

Most tests call `main` in this process; signals, pipes and encodings need a separate process.
"""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import itertools
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pytest

import poise
from poise.agent.policy_file import policy_to_bytes
from poise.cli import COMMANDS, main
from poise.commands import flags
from poise.commands.arguments import require_readable
from poise.config import EnvironmentChoice, TrainConfig
from poise.evaluation import supervision
from poise.other_trainers import ALIASES

SMALL = [
    "--max-steps=1500",
    "--evaluation-interval=600",
    "--selection-episodes=3",
    "--verification-episodes=5",
    "--hidden-sizes=8",
    "--workers=2",
]
ENDLESS = ["--no-stop-when-solved", "--max-steps=1000000000", *SMALL[1:]]
DEADLINE = 120.0
"""Real seconds after which a test fails. No result depends on it."""
ON_RUNS = ["evaluate", "play", "plot", "replay", "resume", "inspect"]
"""Commands with a run as their argument."""

pytestmark = pytest.mark.usefixtures("shared_programs", "no_curves")


class Said(NamedTuple):
    code: int
    out: str
    err: str


Say = Callable[..., Said]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Files without a given folder are written to the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    return tmp_path


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    """Run a command in this process."""

    def run(*arguments: object) -> Said:
        try:
            code = main([str(one) for one in arguments])
        except SystemExit as left:
            # tyro exits in this way.
            code = int(left.code or 0)
        return Said(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, shared_programs: None) -> Path:
    """A finished run, which no test changes."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "--quiet", f"--run-dir={folder}", *SMALL]) == 0
    return folder


@pytest.fixture
def altered(run: Path, tmp_path: Path) -> Path:
    """A copy of the run, which a test may change."""
    return Path(shutil.copytree(run, tmp_path / "altered"))


def require_one_sentence(said: Said, *words: str, code: int = 2) -> None:
    """Check that the command failed with one clear sentence, no traceback and no output."""
    assert said.code == code, said
    assert said.out == ""
    assert said.err.startswith("poise: ")
    assert said.err.endswith("\n")
    assert len(said.err.splitlines()) == 1, said.err
    for word in words:
        assert word in said.err


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_it_names_every_flag(self, say: Say, command: str):
        said = say(command, "--help")
        assert said.code == 0
        assert f"usage: poise {command}" in said.out
        kinds = [COMMANDS[command], *([TrainConfig] if command == "train" else [])]
        for kind in kinds:
            for name in _flags(kind):
                assert f"--{name} " in said.out or f"--{name}," in said.out, name
        # Every flag with a default shows it.
        assert said.out.count("(default: ") + said.out.count("(required)") >= 1

    def test_its_lines_are_as_long_as_the_terminal_allows(
        self, say: Say, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("COLUMNS", "80")
        lines = [line[2:-2] for line in say("train", "--help").out.splitlines() if line[:1] == "│"]
        width = max(map(len, lines))
        for line, following in itertools.pairwise(lines):
            if line.startswith("   ") and following.startswith("   "):
                word = following.split()[0]
                assert len(line.rstrip()) + 1 + len(word) > width, line

    def test_it_names_every_command(self, say: Say):
        said = say("--help")
        assert said.code == 0
        for command in COMMANDS:
            assert command in said.out

    def test_it_imports_neither_jax_nor_matplotlib(self):
        code = (
            "import sys\nfrom poise.cli import main\n"
            f"for command in {[[], *[[command] for command in COMMANDS]]}:\n"
            "    try:\n        main([*command, '--help'])\n    except SystemExit:\n        pass\n"
            "    if {'jax', 'matplotlib', 'gymnasium', 'optax'} & sys.modules.keys():\n"
            "        sys.exit(f'{command} imports them')"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=DEADLINE)
        assert done.returncode == 0, done.stderr


def _flags(kind: Any) -> list[str]:
    """The flags of a command's class, without positional arguments and nested settings."""
    hints = get_type_hints(kind, include_extras=True)
    return [
        field.name.replace("_", "-")
        for field in dataclasses.fields(kind)
        if "Positional" not in str(hints[field.name]) and field.name not in ("config", "run")
        if field.name != "environment"
    ]


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["CartPole-v7"], ["'CartPole-v7'", "CartPole-v1", "CartPole-v0"]),
            (["cartpole"], ["CartPole-v1"]),
            (["CartPole-v1é\n"], ["CartPole-v1"]),
            ([""], ["''"]),
            (["--workers=0"], ["--workers is 0", "1 or more"]),
            (["--workers=-3"], ["--workers is -3"]),
            (["--envs-per-worker=0"], ["--envs-per-worker is 0"]),
            (["--rollout-length=0"], ["--rollout-length is 0"]),
            (["--hidden-sizes", "100", "0"], ["--hidden-sizes is 0"]),
            (["--learning-rate=-1e-3"], ["--learning-rate is -0.001", "above 0"]),
            (["--learning-rate=0"], ["--learning-rate"]),
            (["--learning-rate=nan"], ["--learning-rate is nan", "number"]),
            (["--learning-rate=inf"], ["--learning-rate is inf", "finite"]),
            (["--discount=1.01"], ["--discount is 1.01", "from 0 to 1"]),
            (["--discount=-0.1"], ["--discount"]),
            (["--discount=nan"], ["--discount"]),
            (["--gae-lambda=2"], ["--gae-lambda"]),
            (["--entropy-coefficient=-1"], ["--entropy-coefficient"]),
            (["--value-coefficient=inf"], ["--value-coefficient"]),
            (["--max-gradient-norm=0"], ["--max-gradient-norm"]),
            (["--max-gradient-norm=nan"], ["--max-gradient-norm"]),
            (["--adam-beta1=1"], ["--adam-beta1"]),
            (["--failure-reward=nan"], ["--failure-reward"]),
            (["--target-return=inf"], ["--target-return"]),
            (["--seed=-1"], ["--seed is -1", "0 or more"]),
            (["--seed=9223372036854775808"], ["--seed"]),
            (["--max-steps=0"], ["--max-steps is 0"]),
            (["--max-episodes=-1"], ["--max-episodes"]),
            (["--max-seconds=0"], ["--max-seconds"]),
            (["--max-seconds=nan"], ["--max-seconds"]),
            (["--worker-timeout=0"], ["--worker-timeout"]),
            (["--evaluation-interval=0"], ["--evaluation-interval"]),
            (["--learning-rate-schedule=linear", "--max-seconds=3"], ["linear", "max_steps"]),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_impossible_settings(
        self, say: Say, tmp_path: Path, arguments: list[str], words: list[str]
    ):
        require_one_sentence(say("train", "--run-dir=run", *arguments), *words)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ("", ["name a command: train, resume,", "bench"]),
            ("trian", ["'trian'", "poise train"]),
            ("eval run", ["'eval'", "poise evaluate"]),
            ("list", ["poise runs"]),
            ("help", ["perhaps you meant poise --help"]),
            ("--verison", ["poise --version"]),
            ("xyzzy", ["the commands are train, resume,"]),
            ("Pendulum-v1 --seed 1", ["poise train Pendulum-v1"]),
            ("train --workers=two", ["--workers is 'two'", "whole number"]),
            ("train --workers", ["--workers needs a value, a whole number"]),
            ("train --workers --quiet", ["--workers needs a value"]),
            (
                "train --hidden-sizes",
                ["--hidden-sizes needs one or more values, each a whole number"],
            ),
            ("train --hidden-sizes --quiet", ["--hidden-sizes needs one or more values"]),
            ("train --workers=1.5", ["--workers is '1.5'", "whole number"]),
            ("train --max-steps 1.5", ["--max-steps is '1.5'", "whole number"]),
            ("train --max-seconds soon --seed x", ["a number", "--seed is 'x'"]),
            ("train --hidden_sizes 8 x 1.5", ["--hidden-sizes is 'x'"]),
            ("train --optimizer=sgd", ["--optimizer is 'sgd'", "adam or rmsprop"]),
            ("train --quiet=yes", ["--quiet takes no value"]),
            ("train --no-seed", ["there is no --no-seed"]),
            ("train -n 5", ["there is no -n", "two dashes"]),
            ("train CartPole-v1 Pendulum-v1", ["one environment", "'Pendulum-v1'"]),
            ("evaluate", ["needs a run, for example poise evaluate runs/first"]),
            ("evaluate x --policy best", ["greedy or sampled"]),
            ("play x --render=sideways", ["none or human"]),
            ("bench --workers 1 x", ["--workers is 'x'"]),
        ],
    )
    def test_wrong_words(self, say: Say, tmp_path: Path, arguments: str, words: list[str]):
        require_one_sentence(say(*arguments.split()), "--help", *words)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "arguments",
        [
            "train --target-return -110 --seed=0 --max-steps None --hidden_sizes 8 8 --no-quiet X",
            "train --env-kwargs g=-1.0 --wrappers a:b --learning-rate 1e-3 --run-dir=-odd-",
            "bench --workers 1 2 --envs-per-worker=8 --seconds .5",
            "runs",
            "evaluate run --policy None",
        ],
    )
    def test_what_can_be_read_is_not_refused(self, arguments: str):
        """None of these raises: the parser accepts all of them."""
        command, *others = arguments.split()
        require_readable(command, COMMANDS[command], others)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ("train --lr 3e-4", ["no flag --lr:", "--learning-rate"]),
            ("train --lr=3e-4", ["no flag --lr:", "--learning-rate"]),
            ("train --total-timesteps 1e5", ["--max-steps"]),
            ("train --total_timesteps 1e5 --n_envs=4", ["--max-steps", "--envs-per-worker"]),
            ("train --gamma 0.99", ["--discount"]),
            ("train --ent-coef 0.01", ["--entropy-coefficient"]),
            ("train --ent_coef 0.01", ["--entropy-coefficient"]),
            ("train --vf-coef 0.5 --max-grad-norm 1", ["--value-coefficient", "--max-gradient"]),
            ("train --n-steps 5", ["--rollout-length"]),
            ("train --env CartPole-v1", ["poise train CartPole-v1"]),
            ("train --batch-size 64", ["--envs-per-worker times --rollout-length"]),
            ("train --device cuda", ["JAX_PLATFORMS"]),
            ("train --wrkers=3", ["--workers"]),
            ("train --xyzzy", ["no flag has a similar name"]),
            ("evaluate run --n-eval-episodes 5", ["--episodes"]),
            ("play run --n-episodes 5", ["--episodes"]),
            ("resume run --total-timesteps 1e5", ["--max-steps"]),
            ("resume run --learning-rate 1", ["settings are fixed", "--max-steps", "poise train"]),
            ("resume run --lr 1", ["settings are fixed", "--max-steps", "poise train"]),
        ],
    )
    def test_flags_of_other_trainers_are_explained(
        self, say: Say, tmp_path: Path, arguments: str, words: list[str]
    ):
        said = say(*arguments.split())
        command = arguments.split()[0]
        require_one_sentence(said, f"{command} has no flag --", f"poise {command} --help", *words)
        assert not list(tmp_path.iterdir())

    def test_what_is_said_instead_of_other_flags_is_true(self):
        """Each suggested name is a flag of train, and no explained name is one."""
        trains = {*_flags(TrainConfig), *_flags(COMMANDS["train"])}
        everywhere = trains | {flag for kind in COMMANDS.values() for flag in _flags(kind)}
        for theirs, ours in ALIASES.items():
            assert ours.partition(" ")[0].removeprefix("no-") in everywhere, theirs
            assert theirs not in trains
        for theirs in flags.OTHERWISE.keys() - {"run-dir"}:
            assert theirs not in trains

    @pytest.mark.parametrize(
        "number", ["1.5", "1e-3", "1e400", "nan", "inf", "1e5.2", "12345678901e9"]
    )
    def test_numbers_that_are_not_whole(self, say: Say, tmp_path: Path, number: str):
        said = say("train", f"--max-steps={number}")
        assert said.code == 2
        assert number in said.err
        assert "Traceback" not in said.err
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("command", ON_RUNS)
    @pytest.mark.parametrize("name", ["nowhere", "no/where", "nö \N{SNOWMAN}", "x" * 300])
    def test_a_missing_run(self, say: Say, tmp_path: Path, command: str, name: str):
        require_one_sentence(say(command, name), name.rpartition("/")[2])
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("command", ON_RUNS)
    def test_a_folder_without_a_run(self, say: Say, tmp_path: Path, command: str):
        (tmp_path / "folder").mkdir()
        require_one_sentence(say(command, "folder"), "folder")
        assert not list((tmp_path / "folder").iterdir())

    def test_a_folder_that_is_not_empty_is_not_touched(self, say: Say, altered: Path):
        before = contents(altered)
        said = say("train", "--preset=none", f"--run-dir={altered}", *SMALL)
        require_one_sentence(said, "not empty", "nothing was overwritten", "--run-dir")
        assert contents(altered) == before

    def test_a_file_in_the_folder_s_place(self, say: Say, tmp_path: Path):
        (tmp_path / "run").write_text("mine")
        plain = "train", "--preset=none", *SMALL
        require_one_sentence(say(*plain, "--run-dir=run"), "run")
        require_one_sentence(say(*plain, "--run-dir=run/below"), "run")
        assert (tmp_path / "run").read_text() == "mine"

    @pytest.mark.parametrize(
        ("name", "damage"),
        [
            ("truncated", lambda content: content[:-9]),
            ("header only", lambda content: content[: 8 + _header_length(content)]),
            ("empty", lambda content: b""),
            ("text", lambda content: b"hello " * 99),
            ("pickle", lambda content: b"\x80\x04\x95" + content),
            ("one bit", lambda content: content[:-1] + bytes([content[-1] ^ 1])),
            ("huge header", lambda content: struct.pack("<Q", 2**60) + content[8:]),
        ],
    )
    @pytest.mark.parametrize("command", ["evaluate", "play"])
    def test_a_damaged_policy(
        self,
        say: Say,
        altered: Path,
        command: str,
        name: str,
        damage: Callable[[bytes], bytes],
    ):
        path = altered / "best.safetensors"
        path.write_bytes(damage(path.read_bytes()))
        require_one_sentence(say(command, altered), str(path), "damaged")

    @pytest.mark.parametrize("version", [0, 2, "1", None])
    def test_a_policy_of_another_format_version(self, say: Say, altered: Path, version: Any):
        _edit(altered / "best.safetensors", format_version=version)
        require_one_sentence(say("evaluate", altered), f"format version {version!r}")

    @pytest.mark.parametrize("name", ["Acrobot-v1", "MountainCar-v0", "FrozenLake-v1"])
    @pytest.mark.parametrize("command", ["evaluate", "play"])
    def test_a_policy_that_does_not_fit_its_environment(
        self, say: Say, altered: Path, name: str, command: str
    ):
        """An environment with other spaces than the policy was trained for."""
        policy = poise.load(altered)
        policy.environment = EnvironmentChoice(name)
        (altered / "best.safetensors").write_bytes(policy_to_bytes(policy))
        require_one_sentence(say(command, altered), name)

    @pytest.mark.parametrize("command", ["plot", "replay", "resume"])
    @pytest.mark.parametrize(
        "content", ["", "{", "[]", '{"format": 99}', '{"format": 1, "settings": {"workers": "x"}}']
    )
    def test_damaged_settings(self, say: Say, altered: Path, command: str, content: str):
        (altered / "config.json").write_text(content)
        require_one_sentence(say(command, altered), "config.json")

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            (["evaluate", "RUN", "--episodes=0"], "--episodes is 0"),
            (["evaluate", "RUN", "--seed=-1"], "--seed is -1"),
            (["evaluate", "RUN", "--step-limit=0"], "--step-limit is 0"),
            (["random", "--episodes=-5"], "--episodes is -5"),
            (["random", "--seed=-1"], "--seed is -1"),
            (["random", "CartPole-v7"], "CartPole-v1"),
            (["play", "RUN", "--episodes=0"], "--episodes is 0"),
            (["play", "RUN", "--step-limit=0"], "--step-limit is 0"),
            (["play", "RUN", "--seed=-1"], "--seed is -1"),
            (["bench", "--workers=0"], "0"),
            (["bench", "--workers"], "--workers"),
            (["bench", "--envs-per-worker"], "--envs-per-worker"),
            (["bench", "--seconds=0"], "--seconds"),
            (["bench", "--seconds=nan"], "--seconds"),
            (["bench", "CartPole-v7"], "CartPole-v1"),
            (["resume", "RUN", "--max-steps=0"], "--max-steps"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_impossible_numbers(self, say: Say, run: Path, arguments: list[str], word: str):
        said = say(*[run if one == "RUN" else one for one in arguments])
        require_one_sentence(said, word)

    def test_an_output_that_cannot_be_written(self, say: Say, run: Path, tmp_path: Path):
        said = say("plot", run, "--output=no/such/place.png")
        require_one_sentence(said, "no/such/place.png", code=said.code or 2)
        assert not list(tmp_path.iterdir())


def _header_length(content: bytes) -> int:
    (length,) = struct.unpack("<Q", content[:8])
    return int(length)


def _edit(path: Path, **changes: Any) -> None:
    """Change the metadata of a policy file."""
    content = path.read_bytes()
    end = 8 + _header_length(content)
    header = json.loads(content[8:end])
    metadata = json.loads(header["__metadata__"]["poise"])
    header["__metadata__"]["poise"] = json.dumps({**metadata, **changes})
    packed = json.dumps(header).encode()
    packed += b" " * (-len(packed) % 8)
    path.write_bytes(struct.pack("<Q", len(packed)) + packed + content[end:])


class TestCommands:
    def test_train_reports_its_result(self, say: Say, tmp_path: Path):
        said = say("train", "--run-dir=run", *SMALL)
        assert said.code == 0
        assert said.err == ""
        assert "not solved (max steps)" in said.out
        assert "verified on Gymnasium's own environment" in said.out
        assert "run folder: run" in said.out
        assert "\x1b" not in said.out

    def test_train_writes_scores_in_digits_that_tell_them_from_the_target(
        self, say: Say, tmp_path: Path
    ):
        """With returns near 1, one decimal would show 0.95 as solved at 1."""
        (tmp_path / "small_rewards.py").write_text(SMALL_REWARDS)
        said = say(
            *("train", "./small_rewards.py:Small", "--target-return=0.1", "--launcher=serial"),
            *("--run-dir=run", *SMALL),
        )
        assert said.code == 0
        found = re.search(
            r"environment: (\S+) ± (\S+) over 5 fresh episodes \(target 0.1\)", said.out
        )
        assert found is not None, said.out
        score = json.loads((tmp_path / "run" / "summary.json").read_text())["evaluation"]
        assert float(found[1]) == pytest.approx(score["mean"], rel=0.02)
        assert float(found[2]) == pytest.approx(score["standard_error"], rel=0.06)
        assert (float(found[1]) < 0.1) == (score["mean"] < 0.1)
        assert len(found[1]) >= len("0.0094")

    def test_train_says_when_it_solved(self, say: Say):
        said = say("train", "--run-dir=run", "--target-return=5", *SMALL)
        assert said.code == 0
        assert "solved after" in said.out

    def test_train_quietly(self, say: Say, tmp_path: Path):
        assert say("train", "--quiet", *SMALL) == (0, "", "")
        [folder] = (tmp_path / "runs").iterdir()
        assert (folder / "summary.json").is_file()

    @pytest.mark.parametrize(
        "launcher", ["serial", pytest.param("processes", marks=pytest.mark.slow)]
    )
    def test_an_environment_in_a_file(self, say: Say, tmp_path: Path, launcher: str):
        """By file name, from another folder; worker processes find it, too."""
        place = tmp_path / "mine"
        place.mkdir()
        (place / f"rewards_{launcher}.py").write_text(SMALL_REWARDS)
        name = f"mine/rewards_{launcher}.py:Small"
        said = say("train", f"./{name}", f"--launcher={launcher}", "--quiet", *SMALL)
        assert said == (0, "", "")
        run = f"runs/rewards_{launcher}-Small-a3c-seed0"
        require_one_sentence(say("evaluate", run), "--trust")
        said = say("evaluate", run, "--trust", "--episodes=3")
        assert (said.code, said.err) == (0, "")
        assert f"./{name}" in said.out

    def test_an_environment_that_raises_in_an_evaluation(
        self, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """In this process: the error names the user's line of code and the run's folder."""
        # The random baseline takes these steps in one copy.
        monkeypatch.setattr(supervision, "BASELINE_STEPS", 500)
        (tmp_path / "breaks.py").write_text(SMALL_REWARDS + BREAKS)
        said = say("train", "breaks:Breaks", "--launcher=serial", "--run-dir=run", *SMALL)
        assert said.code == 1
        assert "RuntimeError: the motor is gone" in said.err
        assert "breaks.py" in said.err
        last = said.err.splitlines()[-1]
        assert last.startswith("poise: ")
        assert last.endswith("(run folder: run)")
        assert (tmp_path / "run" / "summary.json").is_file()

    @pytest.mark.parametrize(
        "number",
        [
            "15e2",
            *(pytest.param(one, marks=pytest.mark.slow) for one in ("1_500", "1.5e3", "1500")),
        ],
    )
    def test_whole_numbers_in_every_notation(self, say: Say, tmp_path: Path, number: str):
        assert (
            say("train", "--quiet", "--run-dir=run", *SMALL[1:], f"--max_steps={number}").code == 0
        )
        settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
        assert settings["max_steps"] == 1500

    @pytest.mark.slow
    def test_lists_of_whole_numbers(self, say: Say, tmp_path: Path):
        numbers = ["--hidden-sizes", "1e1", "8", "--envs-per-worker", "1e0"]
        assert say("train", "--quiet", "--run-dir=run", *SMALL[:-2], *numbers).code == 0
        settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
        assert (settings["hidden_sizes"], settings["envs_per_worker"]) == ([10, 8], 1)

    @pytest.mark.parametrize("flag", ["--version", "-V"])
    def test_version(self, say: Say, flag: str):
        assert say(flag) == (0, f"poise {importlib.metadata.version('poise')}\n", "")

    def test_as_a_module(self):
        command = [sys.executable, "-m", "poise", "--version"]
        done = subprocess.run(command, capture_output=True, timeout=DEADLINE, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"poise {importlib.metadata.version('poise')}\n"

    def test_evaluate(self, say: Say, run: Path):
        said = say("evaluate", run, "--episodes=6")
        assert said.code == 0
        for word in ("CartPole-v1", "greedy", "6 episodes", "mean", "standard error", "min", "max"):
            assert word in said.out
        assert "95% interval" in said.out
        assert "not solved: the target return is 475" in said.out

    def test_evaluate_one_episode(self, say: Say, run: Path):
        said = say("evaluate", run, "--episodes=1")
        assert (said.code, said.err) == (0, "")
        assert "mean" in said.out

    @pytest.mark.parametrize(
        "flags", [[], ["--policy=sampled"], ["--which=final"], ["--step-limit=5"]]
    )
    def test_evaluate_as_json(self, say: Say, run: Path, flags: list[str]):
        said = say("evaluate", run, "--episodes=6", "--json", *flags)
        found = json.loads(said.out)
        assert found["environment"] == "CartPole-v1"
        assert found["episodes"] == 6
        assert found["greedy"] is (flags != ["--policy=sampled"])
        assert found["cut"] == (6 if "--step-limit=5" in flags else 0)
        assert found["low"] <= found["mean"] <= found["high"]
        assert (found["target_return"], found["solved"]) == (475.0, False)

    def test_evaluate_one_episode_as_json(self, say: Say, run: Path):
        found = json.loads(say("evaluate", run, "--episodes=1", "--json").out)
        assert found["standard_error"] is None

    def test_random(self, say: Say):
        said = say("random", "CartPole-v0", "--episodes=50")
        assert (said.code, said.err) == (0, "")
        assert "random actions, 50 episodes" in said.out
        found = json.loads(say("random", "CartPole-v1", "--episodes=400", "--json").out)
        assert 20 < found["mean"] < 25
        assert found["greedy"] is False

    def test_play(self, say: Say, run: Path):
        said = say("play", run, "--episodes=2", "--step-limit=7")
        assert (said.code, said.err) == (0, "")
        assert said.out.splitlines() == [
            "episode 1 cut after 7 steps with return 7",
            "episode 2 cut after 7 steps with return 7",
        ]

    def test_play_step_by_step(self, say: Say, run: Path):
        said = say("play", run, "--episodes=2", "--step-limit=7", "--steps")
        assert (said.code, said.err) == (0, "")
        lines = said.out.splitlines()
        assert len(lines) == 16
        assert lines[0].startswith("episode 1  step 1  action ")
        assert lines[0].endswith("reward 1  return 1")
        assert lines[-1] == "episode 2 cut after 7 steps with return 7"

    def test_plot(self, say: Say, altered: Path, tmp_path: Path):
        (altered / "learning_curve.png").unlink()
        said = say("plot", altered)
        assert (said.code, said.err) == (0, "")
        assert Path(said.out.strip()) == altered / "learning_curve.png"
        assert (altered / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
        assert say("plot", altered, "--output=é.png").code == 0
        assert (tmp_path / "é.png").is_file()

    @pytest.mark.parametrize(
        ("target", "words"), [(475.0, "not solved after"), (None, "trained, ended after")]
    )
    def test_doctor_of_a_run(self, say: Say, altered: Path, target: float | None, words: str):
        """Without a target return, a run has not failed."""
        path = altered / "summary.json"
        summary = json.loads(path.read_text()) | {
            "target_return": target,
            "findings": ["LayerInput."],
        }
        path.write_text(json.dumps(summary))
        said = say("doctor", altered)
        assert (said.code, said.err) == (0, "")
        first, *others = said.out.splitlines()
        assert first == f"{altered}: CartPole-v1, {words} {summary['steps']:,} steps"
        assert others == ["- LayerInput."]

    def test_replay(self, say: Say, run: Path):
        said = say("replay", run)
        assert (said.code, said.err) == (0, "")
        assert "final.safetensors and best.safetensors: identical" in said.out

    @pytest.mark.parametrize("name", ["final.safetensors", "journal"])
    def test_replay_of_an_altered_file(self, say: Say, altered: Path, name: str):
        path = altered / name
        content = bytearray(path.read_bytes())
        content[-40] ^= 1
        path.write_bytes(content)
        require_one_sentence(say("replay", altered), "differ", code=1)

    def test_bench(self, say: Say):
        said = say("bench", "--workers=1", "--envs-per-worker=2", "--seconds=0.05", "--json")
        [row] = json.loads(said.out)["rows"]
        assert (row["workers"], row["envs_per_worker"]) == (1, 2)
        assert row["steps_per_second"] > 0

    @pytest.mark.slow
    def test_bench_as_a_table(self, say: Say):
        said = say("bench", "--workers", "1", "2", "--envs-per-worker=2", "--seconds=0.05")
        assert (said.code, said.err) == (0, "")
        assert len(said.out.splitlines()) == 3


SMALL_REWARDS = """
from gymnasium.envs.classic_control import CartPoleEnv

class Small(CartPoleEnv):
    def step(self, action):
        observation, _, terminated, truncated, info = super().step(action)
        return observation, 0.001, terminated, truncated, info
"""
BREAKS = """

class Breaks(Small):
    steps = 0

    def step(self, action):
        # Training takes fewer steps in one copy.
        self.steps += 1
        if self.steps > 400:
            raise RuntimeError("the motor is gone")
        return super().step(action)
"""

BROKEN = """
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

class Broken(CartPoleEnv):
    steps = 0
    def step(self, action):
        Broken.steps += 1
        if Broken.steps > 400:
            raise RuntimeError("the pole has snapped")
        return super().step(action)
"""


def test_a_worker_that_raises_is_told(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The error has number, environment and seed; what was learned so far is saved."""
    (tmp_path / "broken_world.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    said = say(
        *("train", "broken_world:Broken", "--launcher=threads", "--run-dir=run", "--quiet"),
        *("--evaluation-step-limit=5", *SMALL),
    )
    assert said.code == 1
    assert said.out == ""
    last = said.err.splitlines()[-1]
    assert last.startswith("poise: ")
    for word in ("worker ", "broken_world:Broken", "seed ", "RuntimeError", "the pole has snapped"):
        assert word in last
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["stopped"] == "failed"
    assert (tmp_path / "run" / "final.safetensors").is_file()


class Process:
    """Run a command in a separate process."""

    def __init__(self, *arguments: object, **settings: Any) -> None:
        # If the tests run in the background, Ctrl-C may be ignored from the start.
        code = (
            "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from poise.cli import main\nsys.exit(main())"
        )
        self.popen = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings},
        )

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert self.popen.poll() is None, self.popen.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end(self) -> Said:
        out, err = self.popen.communicate(timeout=DEADLINE)
        return Said(self.popen.returncode, (out or b"").decode(), (err or b"").decode())


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    processes: list[Process] = []

    def begin(*arguments: object, **settings: Any) -> Process:
        processes.append(Process(*arguments, **settings))
        return processes[-1]

    yield begin
    for process in processes:
        process.popen.kill()
        process.popen.communicate()


class TestSignals:
    @pytest.mark.parametrize(
        ("number", "code", "reason"),
        [
            (signal.SIGINT, 130, "interrupted"),
            (signal.SIGTERM, 143, "terminated"),
        ],
    )
    @pytest.mark.slow
    def test_they_end_training_and_save_it(
        self,
        say: Say,
        start: Callable[..., Process],
        tmp_path: Path,
        number: signal.Signals,
        code: int,
        reason: str,
    ):
        process = start("train", "--run-dir=run", *ENDLESS)
        metrics = tmp_path / "run" / "metrics.jsonl"
        process.wait_for(lambda: metrics.exists() and metrics.stat().st_size > 0)
        process.popen.send_signal(number)
        said = process.end()
        assert said.code == code
        assert said.err == ""
        assert f"not solved ({reason})" in said.out
        # What to type to go on, at the very end.
        assert said.out.endswith("\ncontinue with: poise resume run\n")
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert (summary["stopped"], summary["failure"]) == (reason, None)
        assert say("replay", "run").code == 0

    @pytest.mark.slow
    def test_ctrl_c_ends_play(self, start: Callable[..., Process], run: Path):
        process = start("play", run, "--episodes=1000000", "--steps", bufsize=0)
        assert process.popen.stdout is not None
        assert process.popen.stdout.readline().startswith(b"episode 1  step 1")
        process.popen.send_signal(signal.SIGINT)
        said = process.end()
        assert said.code == 130
        assert said.err == "poise: interrupted\n"


class TestTerminal:
    """A terminal of 80 columns and 24 lines."""

    def show(self, *arguments: object) -> tuple[int, str]:
        """The output of a command in this terminal."""
        own, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
        environment.pop("COLUMNS")
        process = Process(*arguments, stdout=theirs, env=environment)
        os.close(theirs)
        written = b""
        with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
            while piece := os.read(own, 65536):
                written += piece
        os.close(own)
        said = process.end()
        assert said.err == ""
        return said.code, written.decode()

    @pytest.mark.slow
    def test_train_shows_its_progress_within_80_columns(self):
        budget = ["--max-steps=30000", "--no-stop-when-solved", *SMALL[1:]]
        code, written = self.show("train", "--run-dir=run", *budget)
        assert code == 0
        lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", one) for one in re.split("[\r\n]+", written)]
        assert max(map(len, lines)) <= 80
        heads = [one for one in lines if "━" in one and "%" in one]
        assert any(re.search(r" +\d+%  0:\d\d:\d\d  0:\d\d:\d\d left", one) for one in heads), heads
        for word in ("steps", "/s", "avg", "/475", "entropy", "episodes"):
            assert any(word in one for one in lines), word
        # One line for each new best policy, and one with the last evaluation beside the best.
        best = [one for one in dict.fromkeys(lines) if "the greedy policy reaches" in one]
        scores = [float(one.rpartition(" ")[2]) for one in best if "verified" not in one]
        assert scores
        assert scores == sorted(set(scores))
        assert any(one.startswith("  greedy policy ") for one in lines)

    def test_no_word_of_an_error_is_broken_at_the_edge(self):
        own, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
        environment = {**os.environ, "COLUMNS": "60"}
        process = Process("train", "--lr", "3e-4", stderr=theirs, env=environment)
        os.close(theirs)
        assert process.end().code == 2
        lines = os.read(own, 65536).decode().splitlines()
        os.close(own)
        assert len(lines) > 1
        assert max(map(len, lines)) <= 60
        assert " ".join(lines).endswith("(poise train --help lists its flags)")

    def test_runs_fit_into_it(self, say: Say, run: Path, tmp_path: Path):
        for name in ("first", f"second-{'x' * 90}"):
            shutil.copytree(run, tmp_path / "runs" / name)
        code, written = self.show("runs")
        assert code == 0
        assert max(map(len, written.splitlines())) <= 80
        assert "second-" in written
        # If the output is not a terminal, nothing is shortened.
        assert f"second-{'x' * 90}" in say("runs").out


class TestOutput:
    """A run must not be lost because nobody reads its output."""

    def check_saved(self, folder: Path) -> None:
        summary = json.loads((folder / "summary.json").read_text())
        assert (summary["stopped"], summary["failure"]) == ("max_steps", None)

    @pytest.mark.slow
    def test_a_closed_pipe_does_not_end_training(
        self, start: Callable[..., Process], tmp_path: Path
    ):
        """Like ``poise train | head -1``."""
        read, write = os.pipe()
        process = start("train", "--run-dir=run", *SMALL, stdout=write)
        os.close(write)
        os.close(read)
        said = process.end()
        assert "Traceback" not in said.err
        self.check_saved(tmp_path / "run")
        assert said.code == 0

    @pytest.mark.slow
    def test_a_full_disk_for_standard_output_does_not_end_training(
        self, start: Callable[..., Process], tmp_path: Path
    ):
        with Path("/dev/full").open("w") as full:
            said = start("train", "--run-dir=run", *SMALL, stdout=full).end()
        assert "Traceback" not in said.err
        self.check_saved(tmp_path / "run")

    @pytest.mark.slow
    def test_a_closed_standard_output_does_not_end_training(self, tmp_path: Path):
        command = [sys.executable, "-m", "poise.cli", "train", "--run-dir=run", *SMALL]
        done = subprocess.run(
            ["sh", "-c", 'exec "$@" >&-', "sh", *command], capture_output=True, timeout=DEADLINE
        )
        assert b"Traceback" not in done.stderr
        assert done.returncode == 0
        self.check_saved(tmp_path / "run")

    @pytest.mark.slow
    def test_an_ascii_encoding_does_not_end_training(
        self, start: Callable[..., Process], tmp_path: Path
    ):
        environment = os.environ | {"PYTHONIOENCODING": "ascii"}
        said = start("train", "--run-dir=run", *SMALL, env=environment).end()
        assert "Traceback" not in said.err
        assert said.code == 0
        self.check_saved(tmp_path / "run")

    @pytest.mark.slow
    def test_a_reader_that_goes_away_is_no_error(self, start: Callable[..., Process], run: Path):
        """Like ``poise play RUN | head -1``."""
        process = start("play", run, "--episodes=1000")
        assert process.popen.stdout is not None
        process.popen.stdout.readline()
        process.popen.stdout.close()
        process.popen.stdout = None
        said = process.end()
        assert said.err == ""
        assert said.code == 0

    @pytest.mark.slow
    def test_a_failed_print_is_reported(self, start: Callable[..., Process]):
        with Path("/dev/full").open("w") as full:
            said = start("random", "--episodes=2", stdout=full).end()
        assert said.code == 1
        assert "No space left on device" in said.err
        assert "Traceback" not in said.err


def test_the_installed_command(run: Path):
    script = Path(sys.executable).with_name("poise")
    done = subprocess.run(
        [script, "evaluate", run, "--episodes=2", "--json"], capture_output=True, timeout=DEADLINE
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["episodes"] == 2


@pytest.mark.slow
def test_the_second_run_of_the_command_traces_nothing(tmp_path: Path):
    script = Path(sys.executable).with_name("poise")
    given = ["train", "CartPole-v1", "--max-steps=500", "--verification-episodes=2", "--quiet"]
    names, programs = [], []
    for seed in (0, 1):
        command = [script, *given, f"--seed={seed}"]
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        subprocess.run(command, cwd=tmp_path, env=environment, timeout=DEADLINE, check=True)
        files = sorted((tmp_path / "cache" / "poise" / "programs").iterdir())
        names.append([file.name for file in files])
        programs.append([file.read_bytes() for file in files])
    assert len(names[0]) == 3
    assert names[0] == names[1]
    assert programs[0] == programs[1]
