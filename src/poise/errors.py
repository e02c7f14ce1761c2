"""The exceptions that poise raises, one tree.

::

    PoiseError
    ├── InputError                  bad input, found before any work: exit code 2
    │   ├── ConfigError             an impossible setting (also a ValueError)
    │   ├── EnvironmentNotFoundError    no such environment
    │   ├── MissingExtraError       the environment needs a package that is not installed
    │   ├── EnvironmentCheckError   the environment breaks its contract; found before training
    │   ├── UnsupportedSpaceError   an observation or action space poise cannot learn
    │   ├── UntrustedImportError    a file names code to import, and is not trusted
    │   ├── RunFolderError          a run folder that is missing, in use, or not empty
    │   └── FileFormatError         a file that is damaged or of another format version
    ├── TrainingError               the run itself failed: exit code 1
    │   ├── EnvironmentFailureError     an environment raised or broke its contract in training
    │   ├── WorkerError             a worker raised: number, environment, seed, traceback
    │   ├── NotFiniteError          too many gradients were not finite
    │   ├── RunWriteError           the run's files can no longer be written
    │   └── DeadlineError           something did not answer in time
    └── ReplayMismatchError         a replay that differs from its journal: exit code 1
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
    """The root of all errors that poise raises on purpose.

    Its text names settings as flags where the command line is served, and as arguments in Python.
    """

    exit_code = 1

    def __str__(self) -> str:
        return spelled(super().__str__())


class InputError(PoiseError):
    """The user's input cannot be used; nothing was started."""

    exit_code = 2


class ConfigError(InputError, ValueError):
    """A setting has an impossible value.

    Attributes:
        problem: what is wrong.
        advice: what to do about it; empty where the problem says it.
    """

    def __init__(self, problem: str, advice: str = "") -> None:
        self.problem = problem
        self.advice = advice
        super().__init__(problem, advice)

    def __str__(self) -> str:
        return spelled("; ".join(filter(None, (self.problem, self.advice))))


class EnvironmentNotFoundError(InputError, LookupError):
    """The named environment does not exist or cannot be made here."""


class MissingExtraError(InputError, ImportError):
    """The environment needs a package that is not installed; the message says which extra."""


class EnvironmentCheckError(InputError):
    """The environment breaks Gymnasium's contract; found before training."""


class UnsupportedSpaceError(InputError):
    """An environment's observation or action space is not supported."""


class UntrustedImportError(InputError):
    """A file names code to import, and the user has not said to trust it."""


class RunFolderError(InputError):
    """A run folder is missing, incomplete, in use, or would be overwritten."""


class FileFormatError(InputError):
    """A file is damaged, truncated, or of another format version."""


class TrainingError(PoiseError):
    """A run failed after it had started; what was learned so far is saved."""


class WorkerError(TrainingError):
    """A worker failed.

    Attributes:
        worker: the worker's number, from 0.
        environment: the environment's name.
        seed: the seed of the worker's environments.
        cause: what happened to it, in one sentence.
        worker_traceback: the traceback, as text, from where the worker ran; empty where there is
            nothing to be learned from it.
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
    """An environment raised, or broke its contract, during training.

    Attributes:
        worker_traceback: the traceback, as text, where it was raised in a worker's process; empty
            where there is none.
    """

    def __init__(self, message: str, worker_traceback: str = "") -> None:
        self.worker_traceback = worker_traceback
        super().__init__(message, worker_traceback)

    def __str__(self) -> str:
        return str(self.args[0])


class NotFiniteError(TrainingError):
    """Too many gradients were not finite."""


class RunWriteError(TrainingError):
    """The run's files can no longer be written: the disk is full, for example."""


class DeadlineError(TrainingError):
    """A worker or an environment did not answer before its deadline.

    Attributes:
        what: what did not answer, and for how long.
        consequence: what became of the run; empty where nothing is said of it.
    """

    def __init__(self, what: str, consequence: str = "") -> None:
        self.what = what
        self.consequence = consequence
        super().__init__(what, consequence)

    def __str__(self) -> str:
        return spelled("; ".join(filter(None, (self.what, self.consequence))))


class ReplayMismatchError(PoiseError):
    """A replay arrived at something else than what the run wrote down."""
