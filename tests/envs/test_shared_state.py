"""Shared state is found in the copies' objects, even if their results never repeat."""

import collections
import ctypes
import functools
import itertools
import random
import threading
import types
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from poise.envs import object_walk
from poise.envs.env_factory import EnvFactory
from poise.envs.preflight import check_environment
from poise.envs.shared_state import SharedThings

PATIENCE = 60.0


class Fresh(gymnasium.Env[Any, Any]):
    """The task is to guess the observation, which is drawn from fresh entropy for any seed."""

    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.shown = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.generator = np.random.default_rng()
        self.left = 6
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        reward = float(action == self.get())
        return self._observe(), reward, False, self.left == 0, {}

    def _observe(self) -> np.ndarray:
        shown = int(self.generator.integers(2))
        self.put(shown)
        return np.eye(2, dtype=np.float32)[shown]

    def put(self, shown: int) -> None:
        self.shown = shown

    def get(self) -> Any:
        return self.shown


class Simulator:
    """Holds its state in a slot."""

    __slots__ = ("shown",)

    def __init__(self) -> None:
        self.shown = 0


NUMBER = 0
ARRAY = np.zeros(3)
BYTES = (ctypes.c_int * 2)()
SIMULATOR = Simulator()
PLACE = {"shown": 0}
PACKAGE = types.ModuleType("somebodys_simulator")
PACKAGE.envs = {"shown": 0}  # type: ignore[attr-defined]


def put_elsewhere(shown: int) -> None:
    PLACE["shown"] = shown


class InClass(Fresh):
    envs: ClassVar[dict[str, int]] = {"shown": 0}

    def put(self, shown: int) -> None:
        self.envs["shown"] = shown


class NumberInClass(Fresh):
    envs = 0

    def put(self, shown: int) -> None:
        NumberInClass.envs = shown

    def get(self) -> Any:
        return NumberInClass.envs


class InModule(Fresh):
    def put(self, shown: int) -> None:
        global NUMBER
        NUMBER = shown

    def get(self) -> Any:
        return NUMBER


class InArray(Fresh):
    def put(self, shown: int) -> None:
        ARRAY[1] = shown


class InView(Fresh):
    def __init__(self) -> None:
        super().__init__()
        self.view = ARRAY[1:]

    def put(self, shown: int) -> None:
        self.view[0] = shown


class InMemory(Fresh):
    def put(self, shown: int) -> None:
        BYTES[1] = shown


class InSlot(Fresh):
    def __init__(self, simulator: Simulator = SIMULATOR) -> None:
        super().__init__()
        self.simulator = simulator

    def put(self, shown: int) -> None:
        self.simulator.shown = shown


class InDefault(Fresh):
    def put(self, shown: int, memory: list[int] = [0]) -> None:  # noqa: B006
        memory[0] = shown


def in_closure() -> type[Fresh]:
    last = 0

    class InClosure(Fresh):
        def put(self, shown: int) -> None:
            nonlocal last
            last = shown

        def get(self) -> Any:
            return last

    return InClosure


class InDeque(Fresh):
    seen: ClassVar[collections.deque[int]] = collections.deque([0], maxlen=1)

    def put(self, shown: int) -> None:
        self.seen.append(shown)


class InHistory(Fresh):
    history: ClassVar[list[int]] = []

    def put(self, shown: int) -> None:
        self.history.append(shown)


class MadeLate(Fresh):
    simulator: ClassVar[Simulator | None] = None

    def put(self, shown: int) -> None:
        if MadeLate.simulator is None:
            MadeLate.simulator = Simulator()
        MadeLate.simulator.shown = shown


class InCounter(Fresh):
    counter = itertools.count()

    def get(self) -> Any:
        return next(self.counter) % 2


class InFunction(Fresh):
    def put(self, shown: int) -> None:
        put_elsewhere(shown)


class InPackage(Fresh):
    def put(self, shown: int) -> None:
        PACKAGE.envs["shown"] = shown


class Last(gymnasium.Wrapper[Any, Any, Any, Any]):
    rewards: ClassVar[dict[str, float]] = {"last": 0.0}

    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        last, self.rewards["last"] = self.rewards["last"], float(reward)
        return observation, last, *rest


def in_wrapper() -> Any:
    return Last(Fresh())


def traits(factory: Any) -> Any:
    return check_environment(EnvFactory("fresh", factory), PATIENCE)


@pytest.mark.parametrize(
    ("factory", "named"),
    [
        (InClass, "InClass.envs"),
        (NumberInClass, "NumberInClass.envs"),
        (InModule, ".NUMBER"),
        (InArray, ".ARRAY"),
        (InView, ".ARRAY"),
        (InMemory, ".BYTES"),
        (InSlot, "InSlot.simulator"),
        (InDefault, "InDefault.put"),
        (in_closure(), "InClosure."),
        (InDeque, "InDeque.seen"),
        (InHistory, "InHistory.history"),
        (MadeLate, "MadeLate.simulator"),
        (InCounter, "InCounter.counter"),
        (InFunction, ".PLACE"),
        (InPackage, "somebodys_simulator.envs"),
        (in_wrapper, "Last.rewards"),
    ],
)
def test_shared_state_is_found_although_nothing_repeats(factory: Any, named: str) -> None:
    found = traits(factory)
    assert (found.repeatable, found.shares_state) == (False, True)
    assert named in found.shared


class Registered(Fresh):
    """A class-level list holds every copy, and thus each copy's own objects."""

    copies: ClassVar[list[Any]] = []
    simulators: ClassVar[list[Simulator]] = []

    def __init__(self) -> None:
        super().__init__()
        self.simulator = Simulator()
        self.copies.append(self)
        self.simulators.append(self.simulator)

    def put(self, shown: int) -> None:
        self.simulator.shown = shown


class OneGenerator(Fresh):
    shared = np.random.default_rng()

    def put(self, shown: int) -> None:
        self.shown = int(self.shared.integers(2))


class OneOfPythons(Fresh):
    shared = random.Random()

    def put(self, shown: int) -> None:
        self.shown = self.shared.randrange(2)


class NewGenerators(Fresh):
    shared: ClassVar[Any] = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        NewGenerators.shared = np.random.default_rng()
        return super().reset()


class Samples(Fresh):
    def put(self, shown: int) -> None:
        self.shown = int(self.action_space.sample() + self.observation_space.sample()[0])


class Counts(Fresh):
    steps = 0

    def put(self, shown: int) -> None:
        Counts.steps += 1
        self.shown = shown


TOTAL = 0


class CountsInModule(Fresh):
    def put(self, shown: int) -> None:
        global TOTAL
        TOTAL += 1
        self.shown = shown


class Remembers(Fresh):
    known: ClassVar[dict[float, int]] = {}

    def put(self, shown: int) -> None:
        self.known.setdefault(float(self.generator.random()), shown)
        self.shown = shown


class RemembersForPython(Fresh):
    @staticmethod
    @functools.lru_cache
    def same(shown: int) -> int:
        return shown

    def put(self, shown: int) -> None:
        self.shown = self.same(shown)


class Locks(Fresh):
    lock = threading.Lock()

    def put(self, shown: int) -> None:
        with self.lock:
            self.shown = shown


@pytest.mark.parametrize(
    "factory",
    [
        Fresh,
        Registered,
        OneGenerator,
        OneOfPythons,
        NewGenerators,
        Samples,
        Counts,
        CountsInModule,
        Remembers,
        RemembersForPython,
        Locks,
    ],
)
def test_generators_caches_counters_and_registries_do_not_count(factory: Any) -> None:
    assert traits(factory)[:3] == (False, False, "")


class Stranger:
    """Raises on any use."""

    def __init__(self) -> None:
        self.__dict__["number"] = 0

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)

    def __eq__(self, other: object) -> bool:
        raise SystemExit("==")

    def __hash__(self) -> int:
        raise SystemExit("hash")

    def __len__(self) -> int:
        raise SystemExit("len")

    def __repr__(self) -> str:
        raise SystemExit("repr")


class Lists(list[Any]):
    """A list that cannot be iterated over."""

    def __iter__(self) -> Any:
        raise SystemExit("iter")


class Holds(Fresh):
    def __init__(self, *held: Any) -> None:
        super().__init__()
        self.held = held

    @property
    def trap(self) -> Any:
        raise SystemExit("property")

    def __getattr__(self, name: str) -> Any:
        raise SystemExit(name)


def test_no_environment_code_is_run_and_everything_is_found() -> None:
    stranger = object.__new__(Stranger)
    attributes = object.__getattribute__(stranger, "__dict__")
    attributes["number"] = 0
    inner = [0]
    held = [stranger, Lists([inner, stranger])]
    one, other = Holds(held), Holds(held)
    things = SharedThings(one, other)
    things.look()
    assert things.changed() == []
    attributes["number"] = 1
    inner[0] = 1
    things.look()
    assert things.changed() == ["Holds.held"]


def test_state_that_the_other_cannot_reach_does_not_count() -> None:
    one, other = Holds([0]), Holds([0])
    things = SharedThings(one, other)
    one.held[0][0] = 1
    things.look()
    assert things.changed() == []


def test_the_walk_ends_despite_cycles_and_many_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_walk, "MOST_OBJECTS", 2_000)
    cycle: list[Any] = [list(range(3_000)), [[] for _ in range(3_000)]]
    cycle.append(cycle)
    things = SharedThings(Holds(cycle), Holds(cycle))
    things.look()
    assert things.changed() == []
    cycle[0] = 1
    things.look()
    assert things.changed() == ["Holds.held"]
