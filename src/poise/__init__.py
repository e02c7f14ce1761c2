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
    from poise.learning.events import CutTaken as CutTaken
    from poise.learning.events import EpisodeFinished as EpisodeFinished
    from poise.learning.events import Evaluated as Evaluated
    from poise.learning.events import Event as Event
    from poise.learning.events import Joined as Joined
    from poise.learning.events import Rejected as Rejected
    from poise.learning.events import Stopped as Stopped
    from poise.learning.events import TrainingSolved as TrainingSolved
    from poise.learning.events import Updated as Updated
    from poise.learning.journal import StopReason as StopReason
    from poise.learning.verdict import Score as Score
    from poise.learning.verdict import Verdict as Verdict
    from poise.runs.api import evaluate as evaluate
    from poise.runs.api import random_baseline as random_baseline
    from poise.runs.callback import StopTraining as StopTraining
    from poise.runs.callback import Subscriber as Subscriber
    from poise.runs.folder import load as load
    from poise.runs.folder import remove_run as remove_run
    from poise.runs.play import PlayedStep as PlayedStep
    from poise.runs.play import play as play
    from poise.runs.replay import ReplayReport as ReplayReport
    from poise.runs.replay import replay as replay
    from poise.runs.result import TrainResult as TrainResult
    from poise.runs.training import resume as resume
    from poise.runs.training import train as train
    from poise.world.finding import register as register

__all__ = [
    "CutTaken",
    "EpisodeFinished",
    "Evaluated",
    "Event",
    "Joined",
    "PlayedStep",
    "Player",
    "Policy",
    "Rejected",
    "ReplayReport",
    "Score",
    "StopReason",
    "StopTraining",
    "Stopped",
    "Subscriber",
    "TrainConfig",
    "TrainResult",
    "TrainingSolved",
    "Updated",
    "Verdict",
    "errors",
    "evaluate",
    "load",
    "play",
    "random_baseline",
    "register",
    "remove_run",
    "replay",
    "resume",
    "train",
]

# JAX takes most of a second to import: names are looked up when they are first used.
_HOMES = {
    "CutTaken": "poise.learning.events",
    "EpisodeFinished": "poise.learning.events",
    "Evaluated": "poise.learning.events",
    "Event": "poise.learning.events",
    "Joined": "poise.learning.events",
    "PlayedStep": "poise.runs.play",
    "Player": "poise.agent.policy",
    "Policy": "poise.agent.policy",
    "Rejected": "poise.learning.events",
    "ReplayReport": "poise.runs.replay",
    "Score": "poise.learning.verdict",
    "StopReason": "poise.learning.journal",
    "StopTraining": "poise.runs.callback",
    "Stopped": "poise.learning.events",
    "Subscriber": "poise.runs.callback",
    "TrainConfig": "poise.config",
    "TrainResult": "poise.runs.result",
    "TrainingSolved": "poise.learning.events",
    "Updated": "poise.learning.events",
    "Verdict": "poise.learning.verdict",
    "evaluate": "poise.runs.api",
    "load": "poise.runs.folder",
    "play": "poise.runs.play",
    "random_baseline": "poise.runs.api",
    "register": "poise.world.finding",
    "remove_run": "poise.runs.folder",
    "replay": "poise.runs.replay",
    "resume": "poise.runs.training",
    "train": "poise.runs.training",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("poise.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'poise' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
