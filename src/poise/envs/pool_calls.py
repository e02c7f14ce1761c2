"""XLA calls of EnvPool's pools, with the pool as an argument of the compiled program.

EnvPool's own XLA functions (``envpool/core/xla_template.h``) read the pool's address from an
attribute of the call, which is a constant in the program: each worker, and each restart of one,
would have to compile a program of its own. Here XLA calls a function in Python instead, whose first
argument holds the address. It passes the call on, with the attribute that EnvPool expects. It holds
the GIL for some microseconds, but not while the environments step.

An address is looked up among the open pools and never followed. A call with any other one, or by an
XLA whose call frames look different (``xla/ffi/api/c_api.h``), is passed on unchanged; EnvPool
refuses it, and the program raises.
"""

import ctypes
import threading
from typing import Any

import jax
import numpy as np

from poise.envs.observations import one_line
from poise.errors import ConfigError

__all__ = ["close_handle", "open_handle", "result_shapes", "step_target"]

_Function = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
"""``XLA_FFI_Error* (XLA_FFI_CallFrame*)``, called without the GIL."""
_QuickFunction = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
"""The same, called with the GIL: to get it back may take longer than the call."""

_SCALAR, _INT64 = 3, 5
"""``XLA_FFI_AttrType_SCALAR`` and ``XLA_FFI_DataType_S64``."""
_SENT = 4
"""What a pool is sent: its address, the numbers of copies and players, the actions."""


class _Buffer(ctypes.Structure):
    """The beginning of ``XLA_FFI_Buffer``."""

    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("extension", ctypes.c_void_p),
        ("dtype", ctypes.c_int),
        ("data", ctypes.POINTER(ctypes.c_int64)),
    )


class _Buffers(ctypes.Structure):
    """``XLA_FFI_Args`` and ``XLA_FFI_Rets``."""

    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("extension", ctypes.c_void_p),
        ("size", ctypes.c_int64),
        ("types", ctypes.c_void_p),
        ("buffers", ctypes.POINTER(ctypes.POINTER(_Buffer))),
    )


class _Name(ctypes.Structure):
    """``XLA_FFI_ByteSpan``."""

    _fields_ = (("text", ctypes.c_char_p), ("size", ctypes.c_size_t))


class _Scalar(ctypes.Structure):
    """``XLA_FFI_Scalar``."""

    _fields_ = (("dtype", ctypes.c_int), ("value", ctypes.POINTER(ctypes.c_int64)))


class _Attributes(ctypes.Structure):
    """``XLA_FFI_Attrs``."""

    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("extension", ctypes.c_void_p),
        ("size", ctypes.c_int64),
        ("types", ctypes.POINTER(ctypes.c_int)),
        ("names", ctypes.POINTER(ctypes.POINTER(_Name))),
        ("values", ctypes.POINTER(ctypes.POINTER(_Scalar))),
    )


class _Frame(ctypes.Structure):
    """``XLA_FFI_CallFrame``."""

    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("extension", ctypes.c_void_p),
        ("api", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
        ("stage", ctypes.c_int),
        ("arguments", _Buffers),
        ("results", _Buffers),
        ("attributes", _Attributes),
        ("future", ctypes.c_void_p),
    )


_FRAME_SIZE = _Frame.future.offset
"""The size that XLA states: it does not count what the function writes."""
_GIVEN = _Frame.attributes.offset
"""The part of a frame that is passed on as it is: all before the attributes."""


class _OpenPool:
    """A pool that programs may step, and the frames of the two calls that a step consists of."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        functions = _native(pool)
        self.address = int.from_bytes(functions["send"][0], "little")
        self._send = _QuickFunction(_pointer(functions["send"][2][0]))
        self._receive = _Function(_pointer(functions["recv"][2][0]))
        name = _Name(b"handle", len(b"handle"))
        value = _Scalar(_INT64, ctypes.pointer(ctypes.c_int64(self.address)))
        # Kept, because the frames hold copies of it: what it points at must live as long.
        self._attributes = _Attributes(
            ctypes.sizeof(_Attributes),
            None,
            1,
            (ctypes.c_int * 1)(_SCALAR),
            (ctypes.POINTER(_Name) * 1)(ctypes.pointer(name)),
            (ctypes.POINTER(_Scalar) * 1)(ctypes.pointer(value)),
        )
        self._sending = _Frame(attributes=self._attributes)
        self._receiving = _Frame(attributes=self._attributes)

    def step(self, frame: int) -> int | None:
        """Pass on a step's call as two: sending takes its arguments, receiving has its results."""
        ctypes.memmove(ctypes.addressof(self._sending), frame, _GIVEN)
        self._sending.results.size = 1
        error: int | None = self._send(ctypes.addressof(self._sending))
        if error:
            return error
        ctypes.memmove(ctypes.addressof(self._receiving), frame, _GIVEN)
        self._receiving.arguments.size = 1
        result: int | None = self._receive(ctypes.addressof(self._receiving))
        return result


_open: dict[int, _OpenPool] = {}
"""The open pools by their addresses."""
_targets: dict[str, Any] = {}
"""XLA's functions by name; they must live as long as the process."""
_registering = threading.Lock()


def open_handle(pool: Any) -> np.ndarray:
    """Let programs step a pool until `close_handle`; returns its handle, ``[8]`` uint8."""
    opened = _OpenPool(pool)
    _open[opened.address] = opened
    return np.array([opened.address], np.int64).view(np.uint8)


def close_handle(handle: np.ndarray) -> None:
    """Let no program step a pool any more: those that try raise."""
    _open.pop(int(handle.view(np.int64)[0]), None)


def result_shapes(pool: Any) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shapes and dtypes of a step's results: the handle, then EnvPool's state in order."""
    _, (_, results), _ = _native(pool)["recv"]
    return [(tuple(shape), np.dtype(dtype)) for dtype, shape in results]


def step_target(name: str, pool: Any) -> str:
    """Register the function that steps any pool of one kind, once; returns its name in XLA.

    Args:
        name: name of the environment.
        pool: a pool of such environments.

    Raises:
        ConfigError: EnvPool was compiled for a newer XLA.
    """
    target = f"poise_envpool_{name}"
    # Programs are traced side by side, and XLA refuses a second registration.
    with _registering:
        if target not in _targets:
            _targets[target] = _register(target, name, pool)
    return target


def _register(target: str, name: str, pool: Any) -> tuple[Any, Any]:
    """Register a function under a name in XLA; return what must live as long as the process."""
    refuse = _Function(_pointer(_native(pool)["send"][2][0]))

    def step(address: int) -> int | None:
        frame = _Frame.from_address(address)
        opened = None
        # XLA asks for the version of its interface by an extension, without arguments.
        if frame.struct_size == _FRAME_SIZE and not frame.extension:
            arguments = frame.arguments
            if arguments.size == _SENT:
                opened = _open.get(arguments.buffers[0].contents.data[0])
        return refuse(address) if opened is None else opened.step(address)

    function = _Function(step)
    make_capsule = ctypes.pythonapi.PyCapsule_New
    make_capsule.restype = ctypes.py_object
    make_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    capsule = make_capsule(ctypes.cast(function, ctypes.c_void_p), None, None)
    try:
        jax.ffi.register_ffi_target(target, capsule, platform="cpu", api_version=1)
    except jax.errors.JaxRuntimeError as error:
        raise ConfigError(
            f"XLA cannot step EnvPool's {name}: {one_line(error)}; install a newer JAX, or use "
            "--world copies"
        ) from error
    return function, capsule


def _native(pool: Any) -> dict[str, Any]:
    """Return EnvPool's native XLA functions ``send`` and ``recv``: (handle, specs, capsules)."""
    return dict(pool._xla())


def _pointer(capsule: Any) -> int:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype = ctypes.c_void_p
    get.argtypes = (ctypes.py_object, ctypes.c_char_p)
    pointer: int = get(capsule, None)
    return pointer
