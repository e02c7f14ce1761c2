"""Small runs to look at."""

from ..run_fixtures import (
    compiled_once,
    elsewhere,
    no_curves,
    serial_run,
    shared_programs,
    threads_run,
)

__all__ = [
    "compiled_once",
    "elsewhere",
    "no_curves",
    "serial_run",
    "shared_programs",
    "threads_run",
]
