"""Build argument parsers from the declarations in `settings.py`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

from annotated_types import Ge, Le

from ..errors import InvalidInput
from ..files import expand_home
from ..settings import JobSettings, LoadSettings, Setting, declared

PROGRAM = "python -m pipelines" if __package__ == "pipelines.cli" else "image-to-3d"
INTERRUPTED = 130  # exit code after Ctrl-C, by convention of shells

SETTINGS = declared(JobSettings, LoadSettings)
#: The options that change the result, by heading. The option of setting `up_axis` is `--up-axis`.
_GROUPS = {
    "model": ("model", "views_model", "license", "models_dir"),
    "sampling, of six views or of triposg's shape": (
        "seed",
        "steps",
        "guidance",
        "scheduler",
        "shift",
        "tokens",
    ),
    "background": ("remove_bg", "alpha_threshold", "foreground_ratio"),
    "surface": ("resolution", "threshold", "exact", "min_part_share", "chunk_size"),
    "mesh": ("format", "up_axis", "solid", "orient", "printer", "size", "pivot", "max_faces"),
    "texture": ("texture", "texture_from", "texture_format"),
    "more files": ("orbit", "save_views"),
    "precision and memory": ("dtype", "offload"),
}
_METAVARS = {
    "model": "NAME",
    "views_model": "NAME",
    "remove_bg": "METHOD",
    "texture": "SIZE",
    "orbit": "FRAMES",
    "models_dir": "DIR",
    "printer": "WxDxH",
    "device": "DEVICE",
}
#: Description of the default in the help text, for settings whose default is None.
_DEFAULTS = {
    "model": "the best that is downloaded",
    "views_model": "the one that fits --model",
    "steps": "the model's own",
    "guidance": "the model's own",
    "shift": "the model's own",
    "tokens": 2048,
    "resolution": "the model's own",
    "threshold": "the model's own",
    "models_dir": "the Hugging Face cache",
}
#: The manifest stores seeds as signed 64-bit integers, although the setting allows unsigned ones.
_MAX_SEED = 2**63 - 1


class Parser(argparse.ArgumentParser):
    """A parser that accepts no abbreviated options and prints errors in one line.

    Args:
        command: name of the subcommand.
        usage: the part of the usage line after the subcommand.
        description: one sentence.
    """

    def __init__(self, command: str, usage: str, description: str) -> None:
        super().__init__(
            prog=f"{PROGRAM} {command}",
            usage=f"{PROGRAM} {command} {usage}",
            description=description,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Print the error and exit with code 2."""
        self.exit(2, f"{self.prog}: {message}\n")

    def add_settings(self, *, model: str | None) -> None:
        """Add the options that change the result, grouped by heading.

        Args:
            model: default of `--model`; None for the best model that is downloaded.
        """
        for heading, names in _GROUPS.items():
            group = self.add_argument_group(heading)
            for name in names:
                if name == "model":
                    add_setting(group, name, default=model)
                else:
                    add_setting(group, name)
        self._hide("--views", "save_views", "is deprecated: use --save-views")
        self._hide("--no-half-copy", "no_half_copy", "has no effect: no copies are kept any more")

    def _hide(self, flag: str, dest: str, warning: str) -> None:
        """Accept a deprecated flag with a warning, and hide it from the help text."""
        self.add_argument(flag, dest=dest, action=_Deprecated, warning=f"{flag} {warning}")


class _Deprecated(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, warning: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=False, help=argparse.SUPPRESS)
        self._warning = warning

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        warn(self._warning)
        setattr(namespace, self.dest, True)


def add_setting(
    parser: argparse._ActionsContainer, name: str, *, help: str = "", **options: Any
) -> None:
    """Add the option of a setting to a parser or an argument group.

    Args:
        parser: a parser or an argument group.
        name: the setting's name.
        help: help text; empty for the setting's own.
        options: arguments of `add_argument` that override those derived from the setting.
    """
    setting = SETTINGS[name]
    help = help or setting.help
    if setting.kind is bool:
        options["action"] = "store_true"
    else:
        default = options.setdefault("default", setting.default)
        shown = _DEFAULTS.get(name) if default is None else default
        options.setdefault("metavar", _METAVARS.get(name, None if setting.choices else "N"))
        if setting.choices:
            options["choices"] = setting.choices
            help += f": {', '.join(setting.choices)}" if options["metavar"] else ""
        else:
            parse = number(int, 0, _MAX_SEED) if name == "seed" else _argument(setting.parse)
            options["type"] = path if setting.kind is Path else parse
        if shown not in (None, []):
            help += f" (default: {shown})"
    parser.add_argument(f"--{name.replace('_', '-')}", help=help, **options)


def number(kind: type, low: float, high: float) -> Callable[[str], Any]:
    """Return an argument type that accepts numbers from `low` to `high`."""
    return _argument(
        Setting("", kind, None, low, high, (), "", Annotated[kind, Ge(low), Le(high)]).parse
    )


def path(text: str) -> Path:
    """Convert an argument to a path, and expand a leading `~`."""
    try:
        return expand_home(Path(text))
    except InvalidInput as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def warn(message: str) -> None:
    """Print a warning to stderr."""
    print(f"warning: {message}", file=sys.stderr)


def _argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Wrap an argument type so that argparse shows the message of `InvalidInput`."""

    def converted(text: str) -> Any:
        try:
            return parse(text)
        except InvalidInput as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return converted
