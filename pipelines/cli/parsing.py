"""Build argument parsers from the declarations in `settings.py`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..errors import ImageTo3DError, InvalidInput
from ..files import expand_home
from ..settings import (
    JobSettings,
    LoadSettings,
    OutputSettings,
    Setting,
    SurfaceSettings,
    ViewSettings,
    declared,
)

PROGRAM = "python -m pipelines" if __package__ == "pipelines.cli" else "image-to-3d"
INTERRUPTED = 130  # exit code after Ctrl-C, by convention of shells

SETTINGS = declared(JobSettings, LoadSettings)
_OUTPUTS = [name for name in declared(OutputSettings) if name not in ("previews", "video")]
_MORE_FILES = ("orbit", "save_views")
#: Names of the settings that change the result, by heading. The option of `up_axis` is `--up-axis`.
GROUPS: Mapping[str, Sequence[str]] = {
    "model": ("model", "views_model", "license", "models_dir"),
    "sampling of six views, or of triposg's shape": list(declared(ViewSettings)),
    "background": ("remove_bg", "alpha_threshold", "foreground_ratio"),
    "surface": [name for name in declared(SurfaceSettings) if name != "colors"],
    "mesh": [name for name in _OUTPUTS if not name.startswith(("texture", *_MORE_FILES))],
    "texture": [name for name in _OUTPUTS if name.startswith("texture")],
    "more files": _MORE_FILES,
    "precision and memory": ("dtype", "offload"),
}
#: Arguments of `add_setting` for commands whose workers may be on several devices.
REPEATED_DEVICE: Mapping[str, Any] = {
    "action": "append",
    "default": [],
    "help": "auto, cuda, cuda:1 and so on, mps or cpu; repeat the option to use several devices"
    " (default: auto)",
}
_METAVARS = {
    "model": "NAME",
    "views_model": "NAME",
    "allow_models": "NAMES",
    "remove_bg": "METHOD",
    "texture": "SIZE",
    "orbit": "FRAMES",
    "models_dir": "DIR",
    "folder": "DIR",
    "printer": "WxDxH",
    "keys": "FILE",
    "limit": "SECONDS",
    "item_timeout": "SECONDS",
    "wait": "SECONDS",
    "keep": "HOURS",
    "public_url": "URL",
    "cors_origin": "ORIGIN",
}
#: Description of the default in the help text, for settings whose default is None.
_DEFAULTS = {
    "model": "the best downloaded one",
    "views_model": "the one that fits --model",
    "steps": "the model's own",
    "guidance": "the model's own",
    "shift": "the model's own",
    "tokens": 2048,
    "resolution": "the model's own",
    "threshold": "the model's own",
    "models_dir": "the Hugging Face cache",
}
_WARNINGS = {
    "--views": "is deprecated: use --save-views",
    "--no-half-copy": "has no effect: half-precision copies are no longer saved",
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

    def add_settings(
        self,
        settings: Mapping[str, Setting],
        groups: Mapping[str, Sequence[str]],
        **changed: Mapping[str, Any],
    ) -> None:
        """Add the options of settings, grouped by heading.

        Args:
            settings: the declarations of the settings.
            groups: names of settings by heading.
            changed: by name, the arguments of `add_setting` that differ from the declaration.
        """
        for heading, names in groups.items():
            group = self.add_argument_group(heading)
            for name in names:
                add_setting(group, settings[name], **changed.get(name, {}))

    def job_settings(self, values: Mapping[str, Any]) -> JobSettings:
        """Return the settings of a job; exit with code 2 if they are invalid for the model."""
        from .. import job

        try:
            settings = JobSettings.from_flat(values)
            job.check(settings)
        except InvalidInput as error:
            self.error(str(error))
        return settings

    def add_deprecated(self) -> None:
        """Accept the deprecated options of version 0.2.0 with a warning."""
        hidden: dict[str, Any] = {
            "action": _Deprecated,
            "nargs": 0,
            "default": False,
            "help": argparse.SUPPRESS,
        }
        self.add_argument("--views", dest="save_views", **hidden)
        self.add_argument("--no-half-copy", **hidden)


class _Deprecated(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, flag: str | None = None) -> None:
        warn(f"{flag} {_WARNINGS[str(flag)]}")
        setattr(namespace, self.dest, True)


def add_setting(
    parser: argparse._ActionsContainer, setting: Setting, *, help: str = "", **options: Any
) -> None:
    """Add the option of a setting to a parser or an argument group.

    Args:
        parser: a parser or an argument group.
        setting: the setting's declaration.
        help: help text; empty for the setting's own.
        options: arguments of `add_argument` that override those derived from the setting.
    """
    shown = help or setting.help
    if setting.kind is bool:
        options["action"] = "store_true"
    else:
        options = _derived(setting) | options
        default = options["default"]
        if setting.choices:
            shown += f": {', '.join(setting.choices)}" if options["metavar"] else ""
        usual = _DEFAULTS.get(setting.name) if default is None else default
        if usual not in (None, []):
            shown += f" (default: {usual})"
    parser.add_argument(f"--{setting.name.replace('_', '-')}", help=shown, **options)


def _derived(setting: Setting) -> dict[str, Any]:
    """Return the arguments of `add_argument` for a setting that takes a value."""
    metavar = "N" if setting.kind in (int, float) else None
    options = {"metavar": _METAVARS.get(setting.name, metavar), "default": setting.default}
    if setting.repeats:
        options |= {"action": "append", "default": []} if setting.default is not None else {}
    elif setting.choices:
        options["choices"] = setting.choices
    if setting.kind is Path:  # argparse applies `type` only to a default that is a string
        default = setting.default and str(setting.default)
        return options | {"type": path, "default": default}
    if setting.name == "seed":
        return options | {"type": argument(_seed)}
    return options if setting.choices else options | {"type": argument(setting.parse)}


def _seed(text: str) -> int:
    seed: int = SETTINGS["seed"].parse(text)
    if seed > _MAX_SEED:
        raise InvalidInput(f"must be a whole number between 0 and {_MAX_SEED:,}, got '{text}'")
    return seed


def exit_code(run: Callable[[], int], *, stopped: str = "stopped", failure: int = 1) -> int:
    """Run a command and return its exit code.

    After an error, print its message and return `failure`. After Ctrl-C, print `stopped` and return
    130.
    """
    try:
        return run()
    except ImageTo3DError as error:
        print(f"error: {error}", file=sys.stderr)
        return failure
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return INTERRUPTED


def warn(message: str) -> None:
    """Print a warning to stderr."""
    print(f"warning: {message}", file=sys.stderr)


def argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Wrap an argument type so that argparse shows the message of `InvalidInput`."""

    def converted(text: str) -> Any:
        try:
            return parse(text)
        except InvalidInput as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return converted


#: Argument type of a path that may begin with `~`.
path = argument(lambda text: expand_home(Path(text)))
