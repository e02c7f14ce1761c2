"""The command line: parse arguments, call one command, and report errors as one sentence.

The commands are in `poise.commands`.
"""

import atexit
import contextlib
import errno
import gc
import importlib.metadata
import io
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import tyro

from poise.argument_names import as_flags
from poise.commands.arguments import require_command, require_readable
from poise.commands.bench import Bench
from poise.commands.doctor import Doctor
from poise.commands.evaluate import Evaluate
from poise.commands.flags import join_help_lines, require_known_flags, whole_numbers
from poise.commands.inspect import Inspect
from poise.commands.play import Play
from poise.commands.plot import Plot
from poise.commands.preset_flags import given_preset, preset_flags
from poise.commands.random import Random
from poise.commands.replay import Replay
from poise.commands.resume import Resume
from poise.commands.run_end import INTERRUPTED
from poise.commands.runs import Runs
from poise.commands.train import Train
from poise.commands.values import terminal_width, wrapped
from poise.errors import EnvironmentFailureError, PoiseError, WorkerError
from poise.launchers.stop_signals import interruptible
from poise.presets.choice import explained
from poise.training.process_role import run_as_command

__all__ = ["main", "run"]

_BAD_PATHS = (errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EISDIR)

OBJECTS_BEFORE_COLLECTION = 200_000
"""New objects after which the ``poise`` command looks for garbage in reference cycles."""

COMMANDS: dict[str, Callable[..., Any]] = {
    "train": Train,
    "resume": Resume,
    "random": Random,
    "evaluate": Evaluate,
    "play": Play,
    "runs": Runs,
    "plot": Plot,
    "replay": Replay,
    "inspect": Inspect,
    "bench": Bench,
    "doctor": Doctor,
}


def run() -> None:
    """The ``poise`` command: call `main`, then exit without a full interpreter shutdown.

    With JAX loaded, a full shutdown takes a quarter of a second, and it waits for threads that hang
    in an environment. Functions registered with `atexit` still run.
    """
    # Importing JAX makes many objects and hardly any garbage. With Python's own threshold, looking
    # for garbage among them takes a tenth of the time.
    gc.set_threshold(OBJECTS_BEFORE_COLLECTION, 20, 100)
    run_as_command()
    code = main()
    others = [one for one in threading.enumerate() if one is not threading.main_thread()]
    # Compilation threads only wait for work: it is safe to leave them.
    if any(not one.daemon and not one.name.startswith("poise-compile") for one in others):
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except OSError:
            # The reader has gone, or the disk is full. main has reported it if it matters.
            continue
    os._exit(code)


@as_flags()
def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 success; 1 failure, or a replay that differs; 2 invalid input; 130 and 143
        ended by SIGINT and SIGTERM.
    """
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Not every terminal can show every character.
            stream.reconfigure(errors="replace")
    try:
        with interruptible():
            return _command(arguments)
    except PoiseError as error:
        if isinstance(error, EnvironmentFailureError | WorkerError):
            _show_traceback(error)
        notes = (f"({_from_here(one)})" for one in getattr(error, "__notes__", ()))
        _complain(" ".join([f"poise: {error}", *notes]))
        return error.exit_code
    except KeyboardInterrupt:
        print("poise: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has closed it, as `| head` does: not an error.
        sys.stderr.close()
        return 0
    except OSError as error:
        _complain(f"poise: {error}")
        return 2 if error.errno in _BAD_PATHS else 1


def _command(arguments: list[str] | None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] in (["--version"], ["-V"]):
        print(f"poise {_version()}")
        return 0
    require_command(arguments, list(COMMANDS))
    preset = None
    if arguments[0] in COMMANDS:
        if {"-h", "--help"} & set(arguments):
            join_help_lines(COMMANDS[arguments[0]])
        require_known_flags(arguments[0], COMMANDS[arguments[0]], arguments[1:])
        given = require_readable(arguments[0], COMMANDS[arguments[0]], arguments[1:])
        if arguments[0] == "train":
            preset = given_preset(given)
            arguments = [*arguments, *preset_flags(preset, given)]
    with whole_numbers, explained(preset):
        command = tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="poise",
            description=(
                "Asynchronous actor-critic reinforcement learning, fast and replayable. "
                "poise COMMAND --help lists the flags of a command; poise --version prints the "
                "version."
            ),
            args=arguments,
        )
    return int(command())


def _version() -> str:
    try:
        return importlib.metadata.version("poise")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed: running from the source)"


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """Show a warning as a sentence, without a line of poise's source code."""
    del filename, lineno, file, line
    if issubclass(category, RuntimeWarning):
        # A closed standard error must not end a run.
        with contextlib.suppress(OSError):
            _complain(f"poise: warning: {message}")


def _show_traceback(error: EnvironmentFailureError | WorkerError) -> None:
    """Print the traceback of user code that raised, in a worker or in this process."""
    cause = error.__cause__
    if error.worker_traceback:
        print(error.worker_traceback, file=sys.stderr)
    elif cause is not None and not isinstance(cause, PoiseError):
        traceback.print_exception(cause)


def _from_here(text: str) -> str:
    """Shorten absolute paths inside the current folder to relative ones."""
    with contextlib.suppress(OSError):
        return text.replace(f"{os.path.realpath(os.curdir)}/", "")
    return text


def _complain(text: str) -> None:
    """Print an error or warning on standard error, wrapped between words in a terminal."""
    width = terminal_width(sys.stderr)
    print(*(wrapped(line, width) for line in text.splitlines()), sep="\n", file=sys.stderr)


if __name__ == "__main__":
    run()
