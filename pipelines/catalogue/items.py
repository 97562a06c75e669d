"""Find a catalogue's images in folders, patterns and lists, and assign their ids."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EnvironmentProblem, InvalidInput, UnreadableImage
from ..files import expand_home, files_in, matching, sha256
from ..images.reading import is_input_image
from .fetching import downloaded, first_line
from .lists import PICTURE, READERS, read_list

ID = "id"
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
#: Matches the names of columns with photographs of other sides than the front.
_SIDE = re.compile(r"image[_-](left|back|right|-?\d+(?:\.\d+)?)")
_MAX_NAME = 80


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a catalogue.

    Attributes:
        id: unique within the catalogue.
        picture: URL or absolute path. Relative paths would fail in workers that start in another
            folder.
        sides: (side, picture) of photographs of the object's other sides, see `Viewpoints.of`.
        overrides: (name, text) of the other non-empty cells in the item's row, sorted by name.
    """

    id: str
    picture: str
    overrides: tuple[tuple[str, str], ...] = ()
    sides: tuple[tuple[str, str], ...] = ()

    @property
    def pictures(self) -> list[str]:
        """URLs or paths of all images, the front first."""
        return [self.picture, *(picture for _, picture in self.sides)]

    @property
    def azimuths(self) -> list[str]:
        """Sides of all images, the front first; empty if there is only one."""
        return ["front", *(side for side, _ in self.sides)] if self.sides else []


def is_remote(picture: str) -> bool:
    """Return whether an image is at a URL."""
    return bool(_ADDRESS.match(picture))


def digest_of(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of one file; for several, the SHA-256 of their joined digests."""
    digests = [sha256(path) for path in paths]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def find_items(inputs: Sequence[str]) -> list[Item]:
    """Find the items of folders, patterns, lists and single images.

    Folders are searched with their subfolders, in sorted order. Hidden images and images that
    this library wrote are skipped. The id of an image is its relative path without the suffix;
    the suffix is kept where two ids would be equal.

    A text list has one image per line. CSV files (with a header), JSON Lines and Parquet have a
    column `picture`, and optionally `id`, columns of settings, and photographs of other sides in
    columns such as `image_left` and `image_120` (degrees). Paths in a list are relative to
    the list's folder.

    Args:
        inputs: paths, glob patterns, or URLs of images or lists.

    Raises:
        InvalidInput: if an input is missing, a list is damaged or lacks a column, two items share
            an id, or fsspec does not support the protocol of a URL.
        EnvironmentProblem: if a package to read a list is missing.
    """
    items = [item for source in inputs for item in _items_of(source)]
    if not items:
        raise InvalidInput(f"There is no image in {', '.join(inputs)}.")
    seen: dict[str, str] = {}
    for item in items:
        if item.id in seen:
            raise InvalidInput(
                f"Two items have the id '{item.id}': {seen[item.id]} and {item.picture}. Give each"
                " its own id, in a list with a column 'id'."
            )
        seen[item.id] = item.picture
    _check_protocols(items)
    return items


def folder_name(id: str) -> str:
    """Return the name of an item's folder: its id, or a valid name with a digest of the id."""
    name = re.sub(r"[^a-z0-9._-]+", "-", id.lower()).strip("-.")[:_MAX_NAME]
    if name == id and name.partition(".")[0] not in _RESERVED:
        return name
    digest = hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{name}-{digest[:8]}".lstrip("-")


_RESERVED = {"con", "prn", "aux", "nul", *(f"{p}{i}" for p in ("com", "lpt") for i in range(10))}


def _items_of(source: str) -> Iterator[Item]:
    if _ADDRESS.match(source):
        yield from _items_of_list(source) if _is_list(source) else [Item(source, source)]
        return
    path = expand_home(Path(source))
    if path.is_dir():
        yield from _items_at({p.relative_to(path): p for p in files_in(path) if is_input_image(p)})
    elif path.is_file():
        named = Item(path.stem, str(path.absolute()))
        yield from _items_of_list(str(path)) if _is_list(source) else [named]
    else:
        found = matching(path)
        if not found:
            raise InvalidInput(
                f"There is no file or folder {source}, and the pattern matches nothing."
            )
        yield from _items_at({p: p for p in found if is_input_image(p)})


def _is_list(source: str) -> bool:
    return source.lower().endswith(tuple(READERS))


def _items_at(images: Mapping[Path, Path]) -> Iterator[Item]:
    """Yield items whose ids are derived from relative paths."""
    stems = [name.with_suffix("").as_posix() for name in images]
    times = Counter(stems)
    for (name, path), stem in zip(images.items(), stems, strict=True):
        yield Item(name.as_posix() if times[stem] > 1 else stem, str(path.absolute()))


def _items_of_list(source: str) -> Iterator[Item]:
    """Yield the items of a list."""
    try:
        with downloaded(source) if _ADDRESS.match(source) else nullcontext(Path(source)) as path:
            rows = read_list(path)
    except ImportError as error:
        raise EnvironmentProblem(
            f"A package to read {source} is missing ({error}): run 'pip install -r"
            " requirements-cluster.txt'."
        ) from error
    except UnreadableImage:
        raise
    except Exception as error:  # csv, json and pyarrow raise various types
        raise InvalidInput(f"The list {source} cannot be read: {first_line(error)}.") from error
    for number, row in enumerate(rows, 1):
        picture = _text(row.get(PICTURE))
        if not picture:
            raise InvalidInput(
                f"Row {number} of {source} has no image: the column '{PICTURE}' must be a path"
                f" or an address (columns: {', '.join(map(str, row)) or 'none'})."
            )
        values = {
            str(k): text for k, v in row.items() if k not in (ID, PICTURE) if (text := _text(v))
        }
        sides = {k: match[1] for k in values if (match := _SIDE.fullmatch(k))}
        yield Item(
            _text(row.get(ID))
            or (picture if is_remote(picture) else Path(picture).with_suffix("").as_posix()),
            _absolute_picture(picture, source),
            tuple(sorted((k, _number(v)) for k, v in values.items() if k not in sides)),
            tuple((side, _absolute_picture(values[k], source)) for k, side in sides.items()),
        )


def _absolute_picture(picture: str, source: str) -> str:
    """Return the URL or absolute path of an image; paths in a list are relative to its folder."""
    if is_remote(picture) or is_remote(source):
        return picture
    return str(Path(source).parent.absolute() / picture)


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value).strip()


def _number(text: str) -> str:
    """Remove '.0' from whole numbers: tools write integer columns with empty cells as floats."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)


def _check_protocols(items: Sequence[Item]) -> None:
    """Check that fsspec can read each kind of URL; http and https do not need fsspec."""
    pictures = [picture for item in items for picture in item.pictures]
    protocols = {one.partition("://")[0].lower() for one in pictures if is_remote(one)}
    for protocol in protocols - {"http", "https"}:
        import fsspec

        try:
            fsspec.get_filesystem_class(protocol)
        except (ImportError, ValueError) as error:  # no package, or unknown protocol
            raise InvalidInput(
                f"Addresses that start with {protocol}:// cannot be read: {first_line(error)}."
            ) from error
