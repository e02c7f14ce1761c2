"""Compiling programs, from stored ones where a run with the same settings has traced them.

XLA's own cache saves compiling a program, but not tracing it, which takes most of a warm start. So
traced programs are stored too, as StableHLO (`jax.export`). What a program depends on is known only
to its run, which describes it to the compiler.
"""

import contextlib
import functools
import hashlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast, runtime_checkable

import jax
import numpy as np
from jax import export
from jax._src.export import _export

from poise.maths.statistics import Moments, ShiftedMoments
from poise.trajectory import Gradient, Snapshot, Trajectory

__all__ = [
    "CompileOptions",
    "Compiler",
    "ProgramOfAnyShape",
    "ProgramStore",
    "compile_options",
    "travels_in_programs",
]

CompileOptions = dict[str, str | bool | int]
"""XLA's compile options by name."""
FUSION_EMITTERS_ALWAYS_SINCE = (0, 11, 1)
"""The first JAX version whose XLA has no option to disable its fusion emitters on the CPU."""

_registered: set[type] = set()
_registering = threading.Lock()


@runtime_checkable
class ProgramStore(Protocol):
    """Keeps traced programs by name."""

    def read(self, name: str) -> bytes | None:
        """Return a program exactly as it was written; None if there is none."""

    def write(self, name: str, program: bytes) -> None:
        """Keep a program, if that is possible."""


class Compiler:
    """Compiles the programs of a run.

    Args:
        options: XLA's compile options.
        description: all that the programs depend on, except for the shapes of their arguments; None
            if that is not known, or if they have code that StableHLO cannot hold.
        store: where traced programs are kept; None traces every program.
    """

    def __init__(
        self,
        options: CompileOptions,
        description: str | None = None,
        store: ProgramStore | None = None,
    ) -> None:
        self.options: dict[str, Any] = dict(options)
        self._description = description
        self._store = store

    def __call__(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Compile a pure function for arguments with these shapes and dtypes.

        With a description, a program passes through StableHLO in any case, so that whether it was
        stored makes no difference to a single bit.

        Args:
            name: the program's name in this run.
            function: takes and returns pytrees of arrays.
            arguments: arrays, or shapes and dtypes.
        """
        if self._description is None:
            lowered = jax.jit(function).lower(*arguments)
        else:
            program = self._exported(name, function, arguments)
            traced = export.deserialize(cast("Any", program))
            with _no_linear_algebra(b"lapack" not in program):
                lowered = jax.jit(traced.call).lower(*arguments)
        return lowered.compile(compiler_options=self.options or None)

    def _exported(self, name: str, function: Callable[..., Any], arguments: Any) -> bytes:
        """Return the traced program, serialised."""
        travels_in_programs(Gradient, Moments, ShiftedMoments, Snapshot, Trajectory)
        travels_in_programs(*_named_tuples(arguments))
        key = f"{self._description}\n{name}\n{_shapes(arguments)}"
        file = f"{name}-{hashlib.sha256(key.encode()).hexdigest()}"
        stored = None if self._store is None else self._store.read(file)
        if stored is not None:
            return stored
        program = bytes(export.export(jax.jit(function))(*arguments).serialize())
        if self._store is not None:
            self._store.write(file, program)
        return program


class ProgramOfAnyShape:
    """A function that is compiled once for each structure and shapes of its arguments.

    Args:
        compiler: compiles it.
        name: the program's name in this run.
        function: takes and returns pytrees of arrays.
    """

    def __init__(self, compiler: Compiler, name: str, function: Callable[..., Any]) -> None:
        self._compile = functools.partial(compiler, name, function)
        self._compiled: dict[str, Any] = {}

    def compile(self, *arguments: Any) -> Any:
        """Compile for arguments with these shapes; returns the compiled program."""
        shapes = _shapes(arguments)
        if shapes not in self._compiled:
            self._compiled[shapes] = self._compile(*arguments)
        return self._compiled[shapes]

    def __call__(self, *arguments: Any) -> Any:
        """Run the function, compiled before or now."""
        return self.compile(*arguments)(*arguments)


def _shapes(arguments: Any) -> str:
    """Describe structure, shapes and dtypes of arguments."""
    leaves, structure = jax.tree.flatten(arguments)
    shapes = [(np.shape(leaf), str(getattr(leaf, "dtype", type(leaf)))) for leaf in leaves]
    return f"{structure}\n{shapes}"


def compile_options(backend: str) -> CompileOptions:
    """Return XLA's compile options for poise's programs on a backend (``cpu``, ``gpu``).

    Measured on the CPU for the CartPole cycle: compiling takes a third of the default time, and the
    program is equally fast. Eigen's own threads are disabled, as they would compete with workers.
    """
    if backend != "cpu":
        return {}
    options: CompileOptions = {
        "xla_backend_optimization_level": 1,
        "xla_cpu_multi_thread_eigen": False,
    }
    if jax.__version_info__[:3] < FUSION_EMITTERS_ALWAYS_SINCE:
        options["xla_cpu_use_fusion_emitters"] = False
    return options


@contextlib.contextmanager
def _no_linear_algebra(is_needless: bool) -> Iterator[None]:
    """Do not load LAPACK, if a stored program that is lowered in this thread does not call it.

    JAX loads it for every stored program, by importing SciPy, which takes half a second.
    """
    _lowering.is_needless = is_needless
    try:
        yield
    finally:
        _lowering.is_needless = False


def _initialize_if_needed(platforms: tuple[str, ...]) -> None:
    if not getattr(_lowering, "is_needless", False):
        _initialize(platforms)


_lowering = threading.local()
_initialize: Any = getattr(_export, "_ensure_backends_initialized", None)
if _initialize is not None:
    _export._ensure_backends_initialized = _initialize_if_needed


def travels_in_programs(*kinds: type) -> None:
    """Let arguments and results of stored programs consist of these named tuples."""
    with _registering:
        for kind in kinds:
            if kind not in _registered:
                name = f"{kind.__module__}.{kind.__qualname__}"
                with contextlib.suppress(ValueError):  # the user has registered it
                    export.register_namedtuple_serialization(kind, serialized_name=name)
                _registered.add(kind)


def _named_tuples(tree: Any) -> set[type]:
    """Return the kinds of named tuples in a pytree of tuples, lists and dictionaries."""
    if isinstance(tree, dict):
        return set().union(*map(_named_tuples, tree.values()))
    if not isinstance(tree, tuple | list):
        return set()
    found: set[type] = {type(tree)} if hasattr(tree, "_fields") else set()
    return found.union(*map(_named_tuples, tree))
