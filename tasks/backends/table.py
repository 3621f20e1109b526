"""The backends by name. One outside of this table is named by its module: `backend: package.module` in a variant."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from types import ModuleType
from typing import TYPE_CHECKING, cast, get_type_hints

from tasks.backends.base import ArraysBackend, Backend, TokensBackend, check_family
from tasks.errors import ConfigError

MODULES: dict[str, str] = {
    "torch": "tasks.backends.torch",
    "openvino": "tasks.backends.openvino",
    "onnx": "tasks.backends.onnx",
    "gguf": "tasks.backends.gguf",
    "mlx": "tasks.backends.mlx",
}

if TYPE_CHECKING:  # each module keeps the protocol of each of its families
    from tasks.backends import gguf, mlx, onnx, openvino, torch

    _TOKENS: tuple[TokensBackend, ...] = (torch, openvino, onnx, gguf, mlx)
    _ARRAYS: tuple[ArraysBackend, ...] = (openvino, onnx, gguf)


def backend(name: str) -> Backend:
    """The backend called `name`; imports no framework yet.

    Raises ConfigError, with the nearest name, for one that is not there, and for a module that is no backend.
    """
    return cast(Backend, _module(name))


def tokens(name: str) -> TokensBackend:
    """The backend called `name`; raises UnsupportedError where it runs no language models."""
    found = backend(name)
    check_family(name, found.FAMILIES, "tokens")
    return cast(TokensBackend, found)


def arrays(name: str) -> ArraysBackend:
    """The backend called `name`; raises UnsupportedError where it runs no models of named arrays."""
    found = backend(name)
    check_family(name, found.FAMILIES, "arrays")
    return cast(ArraysBackend, found)


def module_of(name: str) -> str:
    """The module of the backend called `name`, which is not imported; raises ConfigError for an unknown name."""
    if name in MODULES:
        return MODULES[name]
    if "." not in name:
        raise ConfigError(f"backend {name!r} is not known; {_hint(name)}")
    try:
        there = importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        there = False
    if not there:
        raise ConfigError(f"backend {name!r}: there is no such module; {_hint(name)}")
    return name


def _hint(name: str) -> str:
    close = difflib.get_close_matches(name, MODULES, n=1, cutoff=0.4)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"{meant}allowed: {', '.join(MODULES)}, or a module of yours, as in package.module"


def _module(name: str) -> ModuleType:
    module = importlib.import_module(module_of(name))
    if name not in MODULES:
        _check(module)
    return module


def _check(module: ModuleType) -> None:
    """Raise ConfigError unless a module of the user's has all members that its families ask for."""
    wanted = _members(Backend)
    for family, protocol in (("tokens", TokensBackend), ("arrays", ArraysBackend)):
        if family in getattr(module, "FAMILIES", ()):
            wanted |= _members(protocol)
    absent = sorted(member for member in wanted if not hasattr(module, member))
    if absent:
        raise ConfigError(
            f"{module.__name__} is no backend: it lacks {', '.join(absent)}; tasks/backends/base.py says what each is"
        )


def _members(protocol: type) -> set[str]:
    """Names of what a protocol asks for, functions and data."""
    functions = {name for kind in protocol.__mro__ for name, value in vars(kind).items() if callable(value)}
    return {name for name in functions | set(get_type_hints(protocol)) if not name.startswith("_")}
