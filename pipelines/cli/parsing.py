"""Parsers made from the declarations in `settings.py`."""

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
INTERRUPTED = 130  # the shell's code for Ctrl-C

SETTINGS = declared(JobSettings, LoadSettings)
#: The options that decide about results, by heading: `--up-axis` is the setting `up_axis`.
_GROUPS = {
    "model": ("model", "views_model", "models_dir"),
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
    "mesh": ("format", "up_axis", "solid", "size", "pivot", "max_faces"),
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
    "device": "DEVICE",
}
#: What an option means if it is not given, where its setting's default is None.
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
#: A manifest's seeds are 64-bit integers with a sign: fewer than the setting allows.
_MAX_SEED = 2**63 - 1


class Parser(argparse.ArgumentParser):
    """A parser without abbreviations, whose errors are one line.

    Args:
        command: the subcommand.
        usage: what comes behind it.
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
        """Exit with code 2."""
        self.exit(2, f"{self.prog}: {message}\n")

    def add_settings(self, *, model: str | None) -> None:
        """Add the options that decide about results, by heading.

        Args:
            model: what runs without `--model`; None for the best model that is downloaded.
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
        """Accept a flag of an earlier version, with a warning."""
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
    """Add the option of a setting to a parser or a group.

    Args:
        parser: or a group of one.
        name: of the setting.
        help: in place of the setting's.
        options: in place of what follows from the setting, see `argparse`.
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
    """Return an option's type: numbers between `low` and `high`."""
    return _argument(
        Setting("", kind, None, low, high, (), "", Annotated[kind, Ge(low), Le(high)]).parse
    )


def path(text: str) -> Path:
    """Return an option's path, with the home directory in place of `~`."""
    try:
        return expand_home(Path(text))
    except InvalidInput as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def warn(message: str) -> None:
    """Print a warning."""
    print(f"warning: {message}", file=sys.stderr)


def _argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Let argparse show the message of `InvalidInput`."""

    def converted(text: str) -> Any:
        try:
            return parse(text)
        except InvalidInput as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return converted
