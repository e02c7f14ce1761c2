"""poise: asynchronous actor-critic reinforcement learning on JAX.

>>> import poise
>>> result = poise.train("CartPole-v1", seed=0)     # doctest: +SKIP
>>> policy = poise.load(result.folder)              # doctest: +SKIP
>>> action = policy.act(observation)                # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poise import errors as errors
    from poise.agent.policy import Player as Player
    from poise.agent.policy import Policy as Policy
    from poise.config import TrainConfig as TrainConfig
    from poise.envs.registry import register as register
    from poise.errors import InputError as InputError
    from poise.errors import PoiseError as PoiseError
    from poise.errors import TrainingError as TrainingError
    from poise.evaluation.api import evaluate as evaluate
    from poise.evaluation.api import random_baseline as random_baseline
    from poise.evaluation.play import PlayedStep as PlayedStep
    from poise.evaluation.play import play as play
    from poise.learning.evaluation_result import EvaluationResult as EvaluationResult
    from poise.learning.evaluation_result import Score as Score
    from poise.learning.event_json import event_to_json as event_to_json
    from poise.learning.events import CheckpointReady as CheckpointReady
    from poise.learning.events import EpisodeFinished as EpisodeFinished
    from poise.learning.events import Evaluated as Evaluated
    from poise.learning.events import Event as Event
    from poise.learning.events import Joined as Joined
    from poise.learning.events import Rejected as Rejected
    from poise.learning.events import RunStarted as RunStarted
    from poise.learning.events import Stopped as Stopped
    from poise.learning.events import SummaryWritten as SummaryWritten
    from poise.learning.events import TrainingSolved as TrainingSolved
    from poise.learning.events import Updated as Updated
    from poise.learning.events import WorkerRestarted as WorkerRestarted
    from poise.learning.journal import StopReason as StopReason
    from poise.observers.callback import Callback as Callback
    from poise.observers.callback import StopTraining as StopTraining
    from poise.replaying.replay import ReplayReport as ReplayReport
    from poise.replaying.replay import replay as replay
    from poise.storage.run_folder import load as load
    from poise.storage.run_folder import remove_run as remove_run
    from poise.training.result import TrainResult as TrainResult
    from poise.training.resume import resume as resume
    from poise.training.train import train as train

__all__ = [
    "Callback",
    "CheckpointReady",
    "EpisodeFinished",
    "Evaluated",
    "EvaluationResult",
    "Event",
    "InputError",
    "Joined",
    "PlayedStep",
    "Player",
    "PoiseError",
    "Policy",
    "Rejected",
    "ReplayReport",
    "RunStarted",
    "Score",
    "StopReason",
    "StopTraining",
    "Stopped",
    "SummaryWritten",
    "TrainConfig",
    "TrainResult",
    "TrainingError",
    "TrainingSolved",
    "Updated",
    "WorkerRestarted",
    "errors",
    "evaluate",
    "event_to_json",
    "load",
    "play",
    "random_baseline",
    "register",
    "remove_run",
    "replay",
    "resume",
    "train",
]

# Importing JAX takes most of a second, so each name is imported when it is first used.
_HOMES = {
    "Callback": "poise.observers.callback",
    "CheckpointReady": "poise.learning.events",
    "EpisodeFinished": "poise.learning.events",
    "Evaluated": "poise.learning.events",
    "Event": "poise.learning.events",
    "InputError": "poise.errors",
    "Joined": "poise.learning.events",
    "PlayedStep": "poise.evaluation.play",
    "Player": "poise.agent.policy",
    "PoiseError": "poise.errors",
    "Policy": "poise.agent.policy",
    "Rejected": "poise.learning.events",
    "ReplayReport": "poise.replaying.replay",
    "Score": "poise.learning.evaluation_result",
    "StopReason": "poise.learning.journal",
    "StopTraining": "poise.observers.callback",
    "RunStarted": "poise.learning.events",
    "SummaryWritten": "poise.learning.events",
    "WorkerRestarted": "poise.learning.events",
    "Stopped": "poise.learning.events",
    "TrainConfig": "poise.config",
    "TrainResult": "poise.training.result",
    "TrainingError": "poise.errors",
    "TrainingSolved": "poise.learning.events",
    "Updated": "poise.learning.events",
    "EvaluationResult": "poise.learning.evaluation_result",
    "event_to_json": "poise.learning.event_json",
    "evaluate": "poise.evaluation.api",
    "load": "poise.storage.run_folder",
    "play": "poise.evaluation.play",
    "random_baseline": "poise.evaluation.api",
    "register": "poise.envs.registry",
    "remove_run": "poise.storage.run_folder",
    "replay": "poise.replaying.replay",
    "resume": "poise.training.resume",
    "train": "poise.training.train",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("poise.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'poise' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
