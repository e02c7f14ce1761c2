"""Finding state that two copies of an environment share: both reach it, and a step changes it.

If an environment draws fresh entropy, nothing repeats, and comparing the results of copies shows
nothing. Their objects are compared instead: attributes, containers, closures, and the class
attributes and module globals that their code names. None of their code is run. State in a library,
or outside Python, is not found.
"""

import dis
import time
import types
from typing import Any

from poise.envs.object_contents import differ
from poise.envs.object_walk import Unit, Walk
from poise.envs.shared_objects import layers

__all__ = ["SharedThings"]

MOST_SECONDS = 20.0
"""Seconds of processor time for all comparisons together; what has not changed by then counts as
unchanged."""


class SharedThings:
    """The objects and variables that two copies both reach, with their present content.

    Args:
        one: the copy that will be stepped.
        other: the copy that will not be stepped.
    """

    def __init__(self, one: Any, other: Any) -> None:
        stops = {id(layer) for copy in (one, other) for layer in layers(copy)}
        first, second = Walk(one, stops), Walk(other, stops)
        self._codes = first.codes
        self._units = {
            key: unit
            for key, unit in first.units.items()
            if key in second.units
            # The other may reach it only through its class, for example a list of all instances.
            and not (key in first.private and key not in second.private)
        }
        self._before = {key: unit.content() for key, unit in self._units.items()}
        self._changed: set[str] = set()
        self._left = MOST_SECONDS

    def look(self) -> None:
        """Compare with the saved content; call after every step, as a change may be undone."""
        if self._left <= 0:
            return
        began = time.thread_time()
        for key, unit in list(self._units.items()):
            before, after = self._before[key], unit.content()
            if not differ(before, after):
                continue
            if not self._is_counter(unit, before, after):
                self._changed.add(unit.label)
            del self._units[key]
        self._left -= time.thread_time() - began

    def changed(self) -> list[str]:
        """Return the names of the state that has changed, sorted."""
        return sorted(self._changed)

    def _is_counter(self, unit: Unit, before: Any, after: Any) -> bool:
        """Return whether a variable is a number that code only adds to and never reads."""
        numbers = {int, float}
        if unit.name in (None, "cell_contents") or not (type(before) is type(after) is tuple):
            return False
        if before[0] not in numbers or after[0] not in numbers:
            return False
        return not any(_reads(code, unit.name) for code in self._codes.values())


def _reads(code: types.CodeType, name: str) -> bool:
    """Return whether code loads a name, other than to add to it and store it again."""
    if name not in code.co_names:
        return False
    lines = [one for one in dis.get_instructions(code) if one.opname != "CACHE"]
    for index, line in enumerate(lines):
        if line.argval != name or not line.opname.startswith("LOAD_"):
            continue
        if line.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            later = [at for at in range(index + 1, len(lines)) if lines[at].argval == name]
            store = later[0] if later else 0
            adds = store and lines[store].opname in ("STORE_GLOBAL", "STORE_NAME")
            if adds and lines[store - 1].opname == "BINARY_OP" and _in_place(lines[store - 1]):
                continue
        elif index and lines[index - 1].opname == "COPY":
            continue
        return True
    return False


def _in_place(line: dis.Instruction) -> bool:
    return line.argrepr.endswith("=")
