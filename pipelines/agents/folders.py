"""Confine an agent to the folders that the user named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import InvalidInput
from ..files import check_writable, expand_home, unique_names


class Folders:
    """The folders in which an agent may read images and write results.

    Args:
        folders: at least one. Symbolic links inside them must not point outside.

    Raises:
        InvalidInput: if a folder does not exist.
        EnvironmentProblem: if the first folder, the default for results, is not writable.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise InvalidInput(f"There is no folder {folder}: create it, or name another one.")
        self.paths = [folder.resolve() for folder in folders]
        check_writable(self.paths[0], "the first folder on the command line")

    def __str__(self) -> str:
        return ", ".join(map(str, self.paths))

    def image(self, text: str) -> Path:
        """Return the resolved path of an image file.

        Raises:
            InvalidInput: if the path is outside the folders, or there is no such file.
        """
        path = self._inside(text)
        if not path.is_file():
            raise InvalidInput(f"There is no file {path}: give the path of an image in {self}.")
        return path

    def new_folder(self, text: str, name: str) -> Path:
        """Create a folder for one job's results; a number is appended to a name in use.

        Args:
            text: folder for results; empty for the first of the folders.
            name: preferred name of the new folder, without parents.

        Raises:
            InvalidInput: if the folder is outside the folders.
            EnvironmentProblem: if it is not writable.
        """
        parent = self._inside(text) if text else self.paths[0]
        check_writable(parent, "output")
        (free,) = unique_names([name], lambda one: (parent / one).exists())
        folder = parent / free
        folder.mkdir()
        return folder

    def _inside(self, text: str) -> Path:
        """Resolve a path, relative to the first folder, and check that it is inside a folder."""
        try:
            path = (self.paths[0] / expand_home(Path(text))).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # links in a loop, a NUL character
            raise InvalidInput(f"{text!r} is not a path: {error}.") from error
        if not any(path.is_relative_to(folder) for folder in self.paths):
            raise InvalidInput(f"{text} is outside the folders that the user allowed: {self}.")
        return path
