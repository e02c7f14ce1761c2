"""The doctor's checks in a spawned process: creating the environment, rendering without a display.

They need a separate process because a native library without a display may end its process, and
because a spawned interpreter has only what it imports.
"""

import multiprocessing
import os
import signal
from multiprocessing import connection
from typing import Literal, NamedTuple

import cloudpickle
import gymnasium
import numpy as np

from poise.argument_names import spelled
from poise.config import PROCESSES
from poise.doctor.checks import Subject
from poise.doctor.diagnosis import Finding, brief
from poise.envs.checked_env import close_environment
from poise.errors import ConfigError, MissingExtraError
from poise.launchers.worker_failure import describe_exit
from poise.launchers.worker_main import MISSING_GUARD_EXIT_CODE, pickle_factory
from poise.training.assembly import build_components
from poise.training.jax_settings import adopt_settings
from poise.training.runtime import prepare_jax
from poise.training.worker_factory import SpawnedWorkerFactory

__all__ = ["Answer", "ask", "payload_of", "rendering", "spawning"]

Task = Literal["make", "render"]
LEAVE_SECONDS = 2.0
"""Time for a process that has answered to exit before it is killed."""
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


class Answer(NamedTuple):
    """What the process answered.

    Attributes:
        outcome: ``missing`` if a package is missing, ``guard`` if the process ran the script again.
        text: details, for people.
    """

    outcome: Literal["ok", "missing", "failed", "guard"]
    text: str


def spawning(subject: Subject, *, needed: bool) -> Finding:
    """Check whether worker processes can create the environment.

    Args:
        subject: the environment, which is pickled and created in a spawned process.
        needed: whether the run would use processes; if so, a problem is a failure.
    """
    name = PROCESSES
    try:
        payload = payload_of(subject)
    except ConfigError as error:
        text, advice = spelled(error.problem), spelled(error.advice)
    else:
        answer = ask(payload, "make", subject.config.worker_timeout)
        if answer.outcome == "ok":
            text = "it can be pickled, and a spawned process can create and reset it"
            return Finding(name, "ok", text)
        text = f"a spawned process cannot create it: {answer.text}"
        advice = (
            "everything that the environment needs must be imported or created by its own module, "
            "not by the script that starts the run"
        )
        if answer.outcome == "guard":
            advice = "put the call under  if __name__ == '__main__':"
        advice += "; or use --launcher threads"
    return Finding(name, "failure" if needed else "warning", text, advice)


def rendering(subject: Subject) -> Finding:
    """Check whether the environment renders images without a display."""
    name = "rendering"
    environment = subject.env_factory.make()
    modes = environment.metadata.get("render_modes") or []
    close_environment(environment)
    if "rgb_array" not in modes:
        text = "it has no render mode rgb_array; training does not need one"
        return Finding(name, "ok", text)
    try:
        answer = ask(payload_of(subject), "render", subject.config.worker_timeout)
    except ConfigError:
        return Finding(name, "ok", "not checked, because it cannot be pickled")
    if answer.outcome == "ok":
        return Finding(name, "ok", f"renders images without a display ({answer.text})")
    if answer.outcome == "guard":
        return Finding(name, "ok", f"not checked: {answer.text}")
    if answer.outcome == "missing":
        advice = "to watch it: pip install 'poise[render]'"
        text = f"a package is missing for rendering: {answer.text}"
        return Finding(name, "ok", text, advice)
    advice = "training needs no images; to watch it, fix render() for render_mode='rgb_array'"
    if "render_mode" in answer.text:
        advice = "its constructor must accept render_mode=... and store it in self.render_mode"
    elif "OpenGL" in answer.text:
        advice = "training needs no images; to render without a display, set MUJOCO_GL=egl"
    return Finding(name, "warning", f"does not render without a display: {answer.text}", advice)


def payload_of(subject: Subject) -> bytes:
    """Pickle what the process needs to make the environment."""
    factory = SpawnedWorkerFactory(subject.config, subject.env_factory, workers_play=False)
    return pickle_factory(factory, subject.env_factory.name)


def ask(payload: bytes, task: Task, timeout: float) -> Answer:
    """Run a task in a spawned process; there is an answer in time, even if the process fails."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe(duplex=False)
    # Not a daemon: like a worker, it may have child processes.
    process = context.Process(target=_child, args=(payload, task, theirs), daemon=False)
    try:
        try:
            process.start()
        finally:
            theirs.close()
        if not pipe.poll(timeout):
            return Answer("failed", f"no answer for {timeout:g} s (--worker-timeout)")
        try:
            answer: Answer = pipe.recv()
        except EOFError:
            process.join(LEAVE_SECONDS)
            return _death_report(process.exitcode)
        return answer
    finally:
        pipe.close()
        if process.pid is not None:
            process.join(LEAVE_SECONDS)
            process.kill()
            process.join()
        process.close()


def _death_report(code: int | None) -> Answer:
    if code == MISSING_GUARD_EXIT_CODE:
        return Answer("guard", "the process started to run your script again")
    return Answer("failed", f"the process {describe_exit(code)}")


def _child(payload: bytes, task: Task, pipe: connection.Connection) -> None:
    """The main function of the process: run the task and send the answer; print nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(quiet, stream)
    try:
        factory: SpawnedWorkerFactory = cloudpickle.loads(payload)
        env_factory = factory.env_factory
        adopt_settings(factory.jax_settings)
        prepare_jax()
        if task == "make":
            build_components(factory.config, env_factory)
            env_factory.make().reset(seed=0)
            answer = Answer("ok", "")
        else:
            for variable in DISPLAYS:
                os.environ.pop(variable, None)
            environment = env_factory.make(render_mode="rgb_array")
            environment.reset(seed=0)
            picture = np.asarray(environment.render())
            kind = "ok" if picture.ndim == 3 else "failed"
            answer = Answer(kind, f"of shape {picture.shape}")  # type: ignore[arg-type]
    except (ImportError, MissingExtraError, gymnasium.error.DependencyNotInstalled) as error:
        answer = Answer("missing", brief(error))
    except Exception as error:
        answer = Answer("failed", brief(f"{type(error).__name__}: {error}"))
    pipe.send(answer)
