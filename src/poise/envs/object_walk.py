"""Finding all objects that an environment can reach: through attributes, classes and code.

None of their code is run, and objects of libraries are left out.
"""

import functools
import sys
import time
import types
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from poise.envs.object_contents import attributes, bases, content, is_generator, items, namespace
from poise.envs.shared_objects import layers

__all__ = ["Key", "Unit", "Walk"]

MOST_OBJECTS = 20_000
"""A walk ends after this many objects; the nearest ones come first."""
MOST_SECONDS = 10.0
"""A walk also ends after this many seconds of processor time."""

_NAMES = """
    PIL Box2D absl ale_py box2d chex cloudpickle cv2 envpool equinox flax gym gymnasium imageio
    jax jaxlib jaxtyping keras llvmlite loguru matplotlib moderngl mpl_toolkits mujoco networkx
    numba numpy optax pandas pluggy poise pybullet pydantic pygame pyglet pytest ray rich scipy
    setuptools shapely skimage sklearn sympy tensorflow torch torchvision tqdm tyro wandb
"""
_LIBRARIES = frozenset(_NAMES.split())
"""Libraries: their classes and modules hold caches of their own, not an environment's state."""

Key = tuple[Any, ...]


class Unit(NamedTuple):
    """An object or variable whose content may change.

    Attributes:
        label: where it was found.
        holder: the object itself, or the namespace of the class or module that has the variable.
        name: the variable's name in that namespace; None for an object.
    """

    label: str
    holder: Any
    name: str | None

    def content(self) -> Any:
        """Return the current content."""
        try:
            if self.name is not None:
                return content(self.holder.get(self.name))
            inner = content(self.holder)
            return {"": inner, **{key: content(x) for key, x in attributes(self.holder).items()}}
        except Exception:
            # Another thread is changing it, or it is an unexpected kind of object.
            return None


class Walk:
    """The objects that a copy can reach: its own, and those of its classes and code.

    Attributes:
        units: the objects and variables whose content may change.
        private: keys of the units that it reaches without its classes and without names in code.
        codes: code objects that it may run.
    """

    def __init__(self, environment: Any, stops: set[int]) -> None:
        self.units: dict[Key, Unit] = {}
        self.private: set[Key] = set()
        self.codes: dict[int, types.CodeType] = {}
        self._stops = stops
        self._seen: dict[Key, Any] = {}
        self._classes: list[type] = []
        self._functions: list[types.FunctionType] = []
        self._waiting: deque[tuple[str, Any]] = deque()
        self._deadline = time.thread_time() + MOST_SECONDS
        own = layers(environment)
        for layer in own:
            self._object(type(layer).__qualname__, layer)
        self._go_on()
        self.private = set(self.units)
        while self._classes or self._functions:
            while self._classes:
                self._class(self._classes.pop())
            while self._functions:
                self._function(self._functions.pop())
            self._go_on()

    def _go_on(self) -> None:
        while self._waiting:
            label, value = self._waiting.popleft()
            if len(self._seen) >= MOST_OBJECTS or time.thread_time() > self._deadline:
                self._waiting.clear()
                return
            if id(value) not in self._stops:
                try:
                    self._object(label, value)
                except Exception:
                    # Another thread is changing it, or it is an unexpected kind of object.
                    continue

    def _is_new(self, key: Key, value: Any) -> bool:
        if key in self._seen:
            return False
        # Hold a reference, so that its id is not reused.
        self._seen[key] = value
        return True

    def _object(self, label: str, value: Any) -> None:
        if type(value) in _LEAVES or not self._is_new((id(value),), value):
            return
        kinds = bases(type(value))
        if is_generator(value) or types.ModuleType in kinds:
            return
        if type in kinds:
            self._classes.append(value)
        elif types.FunctionType in kinds:
            self._functions.append(value)
            self._push(label, _held_by_function(value))
        elif types.MethodType in kinds:
            self._push(label, (value.__self__, value.__func__))
        elif type(value) is property:
            self._push(label, (value.fget, value.fset, value.fdel))
        elif type(value) in (staticmethod, classmethod):
            self._push(label, (value.__func__,))
        elif type(value) is functools.cached_property:
            self._push(label, (value.func,))
        elif functools.partial in kinds:
            self._push(label, (value.func, *value.args, *value.keywords.values()))
        elif type(value) is types.CellType:
            self._unit((id(value),), Unit(label, _Contents(value), "cell_contents"))
            self._push(label, tuple(_Contents(value).values()))
        elif type(value).__module__.partition(".")[0] != "logging":
            self._unit((id(value),), Unit(label, value, None))
            self._classes.append(type(value))
            self._push(label, items(value) or ())
            for name, one in attributes(value).items():
                self._push(f"{type(value).__qualname__}.{name}", (one,))
            if np.ndarray in kinds:
                self._push(label, (np.ndarray.base.__get__(value),))

    def _unit(self, key: Key, unit: Unit) -> None:
        self.units.setdefault(key, unit)

    def _push(self, label: str, values: Iterable[Any]) -> None:
        self._waiting.extend((label, value) for value in values)

    def _variable(self, label: str, holder: Any, owner: Any, name: str) -> None:
        """Add a variable of a class or module; ``owner`` identifies its namespace."""
        key = (id(owner), name)
        if self._is_new(key, owner):
            self._unit(key, Unit(label, holder, name))
            self._push(label, (holder.get(name),))

    def _class(self, kind: type) -> None:
        for one in bases(kind):
            if _is_library(one.__module__) or not self._is_new(("class", id(one)), one):
                continue
            held = namespace(one)
            for name, value in list(held.items()):
                if type(value) in _CODE or type(value) in _DESCRIPTORS:
                    self._push(f"{one.__qualname__}.{name}", (value,))
                elif not (name.startswith("__") and name.endswith("__")):
                    self._variable(f"{one.__qualname__}.{name}", held, one, name)

    def _function(self, function: types.FunctionType) -> None:
        """Add the globals that a function's code names, and named attributes of modules."""
        space = function.__globals__
        if _is_library(str(space.get("__name__", ""))):
            return
        names: set[str] = set()
        for code in _nested(function.__code__):
            self.codes[id(code)] = code
            names.update(code.co_names)
        self._names(space, names & space.keys())
        # Modules inside modules, as in package.simulator.world, to any depth.
        seen: set[int] = set()
        modules = [space[name] for name in names & space.keys()]
        while modules:
            module = modules.pop()
            if types.ModuleType not in bases(type(module)) or id(module) in seen:
                continue
            seen.add(id(module))
            held = _module_namespace(module)
            if not _is_library(held.get("__name__")):
                self._names(held, names & held.keys())
                modules.extend(held[name] for name in names & held.keys())

    def _names(self, space: dict[str, Any], names: Iterable[str]) -> None:
        for name in names:
            self._variable(f"{space.get('__name__')}.{name}", space, space, name)


class _Contents:
    """A closure's variable, presented as a namespace."""

    def __init__(self, cell: types.CellType) -> None:
        self._cell = cell

    def get(self, name: str) -> Any:
        """Return the variable's value; None if it has none yet."""
        del name
        return next(iter(self.values()), None)

    def values(self) -> list[Any]:
        """Return a list with the variable's value; empty if it has none yet."""
        try:
            return [self._cell.cell_contents]
        except ValueError:
            return []


_CODE = {types.FunctionType, staticmethod, classmethod, property, functools.cached_property}
_DESCRIPTORS = {types.MemberDescriptorType, types.GetSetDescriptorType}
_module_namespace: Any = vars(types.ModuleType)["__dict__"].__get__
_LEAVES = {int, float, bool, str, bytes, complex, type(None), types.CodeType, *_DESCRIPTORS}


def _held_by_function(function: types.FunctionType) -> tuple[Any, ...]:
    return (
        *(function.__closure__ or ()),
        *(function.__defaults__ or ()),
        *(function.__kwdefaults__ or {}).values(),
        function.__dict__,
    )


def _is_library(module: Any) -> bool:
    """Return whether a module belongs to a library and not to the environment."""
    if type(module) is not str:
        return True
    if module.startswith("gymnasium.envs."):
        return module.startswith("gymnasium.envs.registration")
    top = module.partition(".")[0]
    return top in _LIBRARIES or top in sys.stdlib_module_names


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for one in code.co_consts:
        if type(one) is types.CodeType:
            yield from _nested(one)
