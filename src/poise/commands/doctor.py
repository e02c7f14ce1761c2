"""The command ``poise doctor``."""

import contextlib
import dataclasses
import json
import shutil
import sys
from pathlib import Path

from tyro.conf import Positional

from poise.commands.values import terminal_width, wrapped
from poise.config import TrainConfig, WorldChoice, usable_cores

__all__ = ["Doctor"]


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Examine an environment before training: problems, speed, and a recommended command.

    Given a run's folder instead: say what went wrong in the run, and what to try next.
    """

    environment: Positional[str] = "CartPole-v1"
    """Gymnasium id of the environment, its import path module:attribute, or a run's folder."""

    env_kwargs: tuple[str, ...] = ()
    """Arguments of the environment's constructor as key=value; values are Python literals."""

    wrappers: tuple[str, ...] = ()
    """Import paths module:attribute of Gymnasium wrappers, applied in this order."""

    ignore_observations: tuple[str, ...] = ()
    """Parts of Dict and Tuple observations to leave out, as in train."""

    world: WorldChoice = "auto"
    """How the environment is stepped in training, as in train."""

    workers: int = usable_cores()
    """Number of workers when training is measured. Default: the number of usable processor
    cores."""

    envs_per_worker: int = TrainConfig.envs_per_worker
    """Number of environment copies that each worker steps together."""

    seconds: float = 2.0
    """Length of each measurement in seconds; up to six are made."""

    worker_timeout: float = 60.0
    """Seconds without an answer after which the environment counts as hung."""

    json: bool = False
    """Print the result as one JSON object."""

    def __call__(self) -> int:
        """Examine; exit code 0 if there is no failure, 1 if there is one."""
        from poise.doctor.diagnosis import describe  # noqa: PLC0415
        from poise.doctor.examine import examine  # noqa: PLC0415

        folder = Path(self.environment)
        if (folder / "config.json").is_file():
            return _describe_run(folder, self.json)
        config = TrainConfig(
            self.environment,
            env_kwargs=self.env_kwargs,
            wrappers=self.wrappers,
            ignore_observations=self.ignore_observations,
            world=self.world,
            workers=self.workers,
            envs_per_worker=self.envs_per_worker,
            worker_timeout=self.worker_timeout,
        )
        if self.json:
            # Anything that the environment prints must not mix with the JSON.
            with contextlib.redirect_stdout(sys.stderr):
                diagnosis = examine(config, self.seconds)
            print(json.dumps(diagnosis.to_json(), indent=2))
            return int(diagnosis.failed)
        width = shutil.get_terminal_size((100, 24)).columns
        diagnosis = examine(
            config, self.seconds, tell=lambda item: print(describe(item, width), flush=True)
        )
        if diagnosis.failed:
            print("There are failures: fix them, then run poise doctor again.")
        if diagnosis.command is not None:
            said = "This would run without changes" if diagnosis.failed else "Recommended"
            print(f"{said}:\n  {diagnosis.command}")
        return int(diagnosis.failed)


def _describe_run(folder: Path, as_json: bool) -> int:
    """Print the findings of a run."""
    from poise.storage.run_folder import load_summary  # noqa: PLC0415

    summary = load_summary(folder)
    findings = [str(one) for one in summary.get("findings", [])]
    if as_json:
        print(json.dumps({"solved": summary["solved"], "findings": findings}, indent=2))
        return 0
    # Without a target return a run cannot be solved or not solved.
    failed = "trained, ended" if summary["target_return"] is None else "not solved"
    said = "solved" if summary["solved"] else failed
    print(f"{folder}: {summary['environment']}, {said} after {summary['steps']:,} steps")
    width = terminal_width()
    for finding in findings or ["No problem was found."]:
        print(wrapped(f"- {finding}", width))
    return 0
