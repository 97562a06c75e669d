"""What is made of each item: the run's options and those of its row."""

from __future__ import annotations

import argparse
import copy
import functools
import hashlib
import json
from dataclasses import dataclass
from typing import NoReturn

from .. import __version__
from ..errors import InvalidInput
from ..options import Parser, add_settings, contradiction
from ..weights.presets import RECONSTRUCTION_PRESETS
from .items import Item

#: What a row cannot set, since a worker loads its models once.
_OF_THE_RUN = {"model", "views_model", "dtype", "models_dir", "no_half_copy", "offload"}
#: What changes no result.
_WITHOUT_EFFECT = {"models_dir", "no_half_copy", "offload", "chunk_size"}
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")


@dataclass(frozen=True, slots=True)
class Task:
    """One item's work.

    Attributes:
        folder: of its files, within the catalogue's.
        fingerprint: of what is made of it.
        seed: of its views; 0 for models without any.
    """

    item: Item
    folder: str
    fingerprint: str
    seed: int


class Recipe:
    """The options of a run, from which each item's follow.

    Args:
        options: of `options.add_settings` and `--previews`; the seed must be drawn.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.preset = RECONSTRUCTION_PRESETS[options.model]

    @property
    def revision(self) -> str:
        """The commit of the model's weights, or this library's version for embedded ones."""
        return self.preset.revision or f"embedded in {__version__}"

    def options_of(self, item: Item) -> argparse.Namespace:
        """The run's options with those of the item's row in their places.

        Raises:
            InvalidInput: if a value is out of range, or cannot be set by a row.
        """
        try:
            return copy.copy(_with_overrides(self, item.overrides))
        except InvalidInput as error:
            raise InvalidInput(f"The row of '{item.id}': {error}.") from error

    def task(self, item: Item, folder: str) -> Task:
        """What is to be done with an item.

        Its seed follows from the run's and the item's id, so that it is the same in whatever order,
        on whichever machine, and how often an item is made.
        """
        options = self.options_of(item)
        seed = 0
        if self.preset.sees == "views":
            own = "seed" in {name for name, _ in item.overrides}
            drawn = hashlib.sha256(
                f"{self.options.seed}:{item.id}".encode(errors="surrogatepass")
            ).digest()
            seed = options.seed if own else int.from_bytes(drawn[:7], "big") or 1
        decisive = {k: v for k, v in vars(options).items() if k in _decisive()} | {
            "seed": seed,
            "revision": self.revision,
        }
        text = json.dumps(decisive, sort_keys=True, default=str)
        return Task(item, folder, hashlib.sha256(text.encode()).hexdigest()[:16], seed)


def unknown_columns(items: list[Item]) -> list[str]:
    """Columns that say nothing to this program, in order of names."""
    actions = _actions()
    return sorted({k for item in items for k, _ in item.overrides if _dest(k) not in actions})


@functools.lru_cache(maxsize=4096)
def _with_overrides(recipe: Recipe, overrides: tuple[tuple[str, str], ...]) -> argparse.Namespace:
    actions, words = _actions(), []
    for name, text in overrides:
        action = actions.get(_dest(name))
        if action is None:
            continue
        if action.dest in _OF_THE_RUN:
            raise InvalidInput(f"{name} is of the whole run: give it to the command")
        if action.nargs != 0:
            words.append(f"{action.option_strings[0]}={text}")
        elif text.lower() in _TRUE:
            words.append(action.option_strings[0])
        elif text.lower() not in _FALSE:
            raise InvalidInput(f"{name} must be true or false, got '{text}'")
    options = copy.copy(recipe.options)
    for name, text in overrides:  # a flag that the run has can be taken back
        if text.lower() in _FALSE and _dest(name) in actions and actions[_dest(name)].nargs == 0:
            setattr(options, _dest(name), False)
    found = _row_parser().parse_args(words, options)
    if (problem := contradiction(found)) is not None:
        raise InvalidInput(problem)
    return found


def _dest(column: str) -> str:
    return column.strip().lower().replace("-", "_")


class _RowParser(Parser):
    def error(self, message: str) -> NoReturn:
        raise InvalidInput(message.removeprefix("argument --"))


@functools.cache
def _row_parser() -> argparse.ArgumentParser:
    parser = _RowParser(add_help=False, argument_default=argparse.SUPPRESS)
    add_settings(parser)
    return parser


def _actions() -> dict[str, argparse.Action]:
    """The options that `add_settings` adds, by name."""
    return {action.dest: action for action in _row_parser()._actions}


def _decisive() -> set[str]:
    return {*_actions(), "previews"} - _WITHOUT_EFFECT
