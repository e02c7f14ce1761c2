"""The command ``poise bench``."""

import dataclasses
import json

from tyro.conf import Positional

from poise.commands.values import require_positive
from poise.config import usable_cores
from poise.errors import ConfigError

__all__ = ["Bench"]


@dataclasses.dataclass(frozen=True)
class Bench:
    """Measure training steps per second on this machine."""

    environment: Positional[str] = "CartPole-v1"
    """Gymnasium id of the environment."""

    ignore_observations: tuple[str, ...] = ()
    """Parts of Dict and Tuple observations to leave out, as in train."""

    workers: tuple[int, ...] = tuple(sorted({1, usable_cores()}))
    """Numbers of workers to try. Default: 1 and the number of usable processor cores."""

    envs_per_worker: tuple[int, ...] = (8, 64)
    """Numbers of environment copies per worker to try."""

    seconds: float = 2.0
    """Length of each measurement in seconds; three are made per row of the table."""

    json: bool = False
    """Print the result as one JSON object."""

    def __call__(self) -> int:
        """Measure and print a table."""
        from poise.bench import bench  # noqa: PLC0415

        if not self.workers or not self.envs_per_worker:
            raise ConfigError("--workers and --envs-per-worker need at least one number")
        for value in (*self.workers, *self.envs_per_worker):
            require_positive("--workers and --envs-per-worker", value)
        if not 0 < self.seconds < float("inf"):
            raise ConfigError(f"--seconds is {self.seconds}, but must be above 0, and finite")
        rows = bench(
            self.environment,
            list(self.workers),
            list(self.envs_per_worker),
            self.seconds,
            self.ignore_observations,
        )
        if self.json:
            fused = [row.fused_steps_per_second or 0.0 for row in rows]
            content = {
                "rows": [row._asdict() for row in rows],
                "fused_loop_steps_per_second": max(fused) or None,
            }
            print(json.dumps(content, indent=2))
            return 0
        print("workers  envs/worker        steps/s   of the single-core ceiling")
        for row in rows:
            share = "-"
            if row.share_of_fused_loop is not None:
                share = f"{row.share_of_fused_loop:6.0%} of {row.fused_steps_per_second:,.0f}"
            print(
                f"{row.workers:7d}  {row.envs_per_worker:11d}  {row.steps_per_second:13,.0f}   "
                f"{share}"
            )
        return 0
