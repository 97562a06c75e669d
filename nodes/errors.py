"""Make errors readable on ComfyUI's page."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ..pipelines.errors import EnvironmentProblem, ImageTo3DError

_REQUIREMENTS = Path(__file__).parents[1] / "requirements.txt"
_SHOWN_MODULE = "image_to_3d"

Function = TypeVar("Function", bound=Callable[..., Any])


def explained(execute: Function) -> Function:
    """Wrap a node's `execute` to make its errors readable on the page.

    The library's errors get a short module name, see `_shown_class`. The error for a missing
    package gives the command that installs it.
    """

    @functools.wraps(execute)
    def run(*positional: Any, **named: Any) -> Any:
        with _shown_errors():
            return execute(*positional, **named)

    @functools.wraps(execute)
    async def run_async(*positional: Any, **named: Any) -> Any:
        with _shown_errors():
            return await execute(*positional, **named)

    return run_async if inspect.iscoroutinefunction(execute) else run  # type: ignore[return-value]


@contextmanager
def _shown_errors() -> Iterator[None]:
    try:
        yield
    except ImageTo3DError as error:
        error.__class__ = _shown_class(type(error))
        raise
    except ModuleNotFoundError as error:
        raise _shown_class(EnvironmentProblem)(
            f"The package '{error.name}' is missing: run '{sys.executable} -m pip install -r"
            f" {_REQUIREMENTS}' and restart ComfyUI."
        ) from error


def _shown_class(kind: type[ImageTo3DError]) -> type[ImageTo3DError]:
    """Return a subclass with the same name but a short module name.

    ComfyUI's page shows the module name of an error's class, and in a custom node pack that name
    starts with the full path of the pack's folder. After unpickling, the error has the library's
    original class again.
    """

    def reduce(self: ImageTo3DError) -> tuple[Any, ...]:
        return kind, self.args, self.__dict__

    return type(kind.__name__, (kind,), {"__module__": _SHOWN_MODULE, "__reduce__": reduce})
