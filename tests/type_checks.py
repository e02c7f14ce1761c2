"""Makes modules check the arguments and results of their functions, from their import on.

If a function has shapes, jaxtyping checks that they are consistent. That binds all arguments at
every call, which takes longer than most functions; without shapes, beartype alone checks the same.

Both packages have their own import hooks, which rewrite a module's code. Those also decorate inner
functions, again at every call of the outer one, at a cost of a millisecond each. Here, each
function of a module or of its classes is decorated once.
"""

import functools
import sys
import types
import typing
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any

import beartype
import jaxtyping

__all__ = ["check_types"]

Check = Callable[[Any], Any]

# The numeric tower of PEP 484: an int is accepted as a float. As with jaxtyping, violations are
# TypeErrors, which poise expects where it reads strangers' files.
_by_type: Check = beartype.beartype(
    conf=beartype.BeartypeConf(is_pep484_tower=True, violation_type=TypeError)
)
_by_shape: Check = jaxtyping.jaxtyped(
    typechecker=beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
)


def check_types(packages: Sequence[str]) -> None:
    """Check the modules of these packages that are imported from now on."""
    if sys.version_info < (3, 12):
        # Whether an object fits a protocol: older Pythons list the members anew at every call.
        list_members = typing._get_protocol_attrs  # type: ignore[attr-defined]
        typing._get_protocol_attrs = functools.cache(list_members)  # type: ignore[attr-defined]
    sys.meta_path.insert(0, _Finder(packages))


class _Finder:
    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = tuple(packages)

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> ModuleSpec | None:
        if not any(name == one or name.startswith(f"{one}.") for one in self._packages):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: types.ModuleType) -> None:
        super().exec_module(module)
        has_shapes = "jaxtyping" in Path(self.path).read_text()
        check = _by_shape if has_shapes else _by_type
        for name, one in list(vars(module).items()):
            if getattr(one, "__module__", None) != module.__name__:
                continue
            if isinstance(one, types.FunctionType):
                setattr(module, name, check(one))
            elif isinstance(one, type):
                _check_methods(one, check)


def _check_methods(kind: type, check: Check) -> None:
    for name, one in list(vars(kind).items()):
        if issubclass(kind, tuple) and name in vars(tuple):
            # Generated for named tuples, with annotations that only a type checker knows.
            continue
        if isinstance(one, types.FunctionType):
            setattr(kind, name, check(one))
        elif isinstance(one, classmethod | staticmethod):
            setattr(kind, name, type(one)(check(one.__func__)))
        elif isinstance(one, property):
            parts = (part and check(part) for part in (one.fget, one.fset, one.fdel))
            setattr(kind, name, property(*parts, doc=one.__doc__))
        elif isinstance(one, functools.cached_property):
            one.func = check(one.func)
