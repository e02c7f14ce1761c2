"""The exceptions that poise raises: one tree.

::

    PoiseError
    ├── InputError                  invalid input, found before any work: exit code 2
    │   ├── ConfigError             a setting has an invalid value (also a ValueError)
    │   ├── EnvironmentNotFoundError    the environment does not exist
    │   ├── MissingExtraError       the environment needs a package that is not installed
    │   ├── EnvironmentCheckError   the environment violates Gymnasium's API; found before training
    │   ├── UnsupportedSpaceError   poise does not support an observation or action space
    │   ├── UntrustedImportError    a file names code to import, and --trust was not given
    │   ├── RunFolderError          a run folder is missing, in use, or not empty
    │   └── FileFormatError         a file is damaged or has another format version
    ├── TrainingError               the run itself failed: exit code 1
    │   ├── EnvironmentFailureError     an environment raised or violated the API in training
    │   ├── WorkerError             a worker failed: number, environment, seed, traceback
    │   ├── NotFiniteError          too many gradients were not finite
    │   ├── RunWriteError           the run's files can no longer be written
    │   └── DeadlineError           a worker or an environment did not answer in time
    └── ReplayMismatchError         a replay differs from its journal: exit code 1
"""

from poise.argument_names import spelled

__all__ = [
    "ConfigError",
    "DeadlineError",
    "EnvironmentCheckError",
    "EnvironmentFailureError",
    "EnvironmentNotFoundError",
    "FileFormatError",
    "InputError",
    "MissingExtraError",
    "NotFiniteError",
    "PoiseError",
    "ReplayMismatchError",
    "RunFolderError",
    "RunWriteError",
    "TrainingError",
    "UnsupportedSpaceError",
    "UntrustedImportError",
    "WorkerError",
]


class PoiseError(Exception):
    """Base class of all errors that poise raises on purpose.

    The text names settings as flags on the command line, and as arguments in Python.
    """

    exit_code = 1

    def __str__(self) -> str:
        return spelled(super().__str__())


class InputError(PoiseError):
    """The user's input is invalid; nothing was started."""

    exit_code = 2


class ConfigError(InputError, ValueError):
    """A setting has an invalid value.

    Attributes:
        problem: what is wrong.
        advice: what to do about it; empty if the problem says it already.
    """

    def __init__(self, problem: str, advice: str = "") -> None:
        self.problem = problem
        self.advice = advice
        super().__init__(problem, advice)

    def __str__(self) -> str:
        return _joined(self.problem, self.advice)


class EnvironmentNotFoundError(InputError, LookupError):
    """The environment does not exist or cannot be created."""


class MissingExtraError(InputError, ImportError):
    """The environment needs a package that is not installed; the message says which extra."""


class EnvironmentCheckError(InputError):
    """The environment violates Gymnasium's API; found before training."""


class UnsupportedSpaceError(InputError):
    """An environment's observation or action space is not supported."""


class UntrustedImportError(InputError):
    """A file names code to import, but the user did not say to trust it."""


class RunFolderError(InputError):
    """A run folder is missing, incomplete, in use, or would be overwritten."""


class FileFormatError(InputError):
    """A file is damaged, truncated, or has another format version."""


class TrainingError(PoiseError):
    """A run failed after it had started; what it learned so far is saved."""


class WorkerError(TrainingError):
    """A worker failed.

    Attributes:
        worker: the worker's number, from 0.
        environment: the environment's name.
        seed: the seed of the worker's environments.
        cause: what happened to the worker, in one sentence.
        worker_traceback: the worker's traceback as text; empty if it would not help.
    """

    def __init__(
        self, worker: int, environment: str, seed: int, cause: str, worker_traceback: str = ""
    ) -> None:
        self.worker = worker
        self.environment = environment
        self.seed = seed
        self.cause = cause
        self.worker_traceback = worker_traceback
        super().__init__(worker, environment, seed, cause, worker_traceback)

    def __str__(self) -> str:
        return spelled(
            f"worker {self.worker} failed in {self.environment} "
            f"(environment seed {self.seed}): {self.cause}"
        )


class EnvironmentFailureError(TrainingError):
    """An environment raised an exception, or violated Gymnasium's API, during training.

    Attributes:
        worker_traceback: the traceback as text, if the exception was raised in a worker process;
            otherwise empty.
    """

    def __init__(self, message: str, worker_traceback: str = "") -> None:
        self.worker_traceback = worker_traceback
        super().__init__(message, worker_traceback)

    def __str__(self) -> str:
        return str(self.args[0])


class NotFiniteError(TrainingError):
    """Too many gradients were not finite."""


class RunWriteError(TrainingError):
    """The run's files can no longer be written, for example because the disk is full."""


class DeadlineError(TrainingError):
    """A worker or an environment did not answer before its deadline.

    Attributes:
        what: what did not answer, and for how long.
        consequence: what happens to the run; may be empty.
    """

    def __init__(self, what: str, consequence: str = "") -> None:
        self.what = what
        self.consequence = consequence
        super().__init__(what, consequence)

    def __str__(self) -> str:
        return _joined(self.what, self.consequence)


class ReplayMismatchError(PoiseError):
    """A replay differs from what the run recorded."""


def _joined(*parts: str) -> str:
    """Return a message that consists of several parts, some of which may be empty."""
    return spelled("; ".join(filter(None, parts)))
