"""Sort the statements of an OBJ by keyword.

Source: Wavefront, "Object Files (.obj)", version 3.0; files of ZBrush for `#MRGB`.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import numpy as np

from ...errors import InvalidInput
from ..topology import Floats

log = logging.getLogger(__name__)

_POLYPAINT = b"#MRGB"
#: Statements that do not affect shape or colour: names, groups, shading, display.
_WITHOUT_EFFECT = (
    b"vn g o s mg bevel c_interp d_interp lod shadow_obj trace_obj ctech stech end"
).split()
_SHOWN_KEYWORDS = 6


@dataclass
class FaceLines:
    """Face lines of one material.

    Attributes:
        text: the lines without their keyword.
        above: numbers of `v` and `vt` lines before each face line.
    """

    text: list[bytes] = field(default_factory=list)
    above: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Statements:
    """The lines of an OBJ by keyword, as text without the keyword.

    Attributes:
        vertices, texcoords: `v` and `vt` lines.
        faces: face lines by material name, which is "" for faces without a material.
        libraries: names in the `mtllib` lines.
        polypaint: hexadecimal digits of ZBrush's vertex colours.
        skipped: number of lines of each unsupported keyword.
    """

    vertices: list[bytes] = field(default_factory=list)
    texcoords: list[bytes] = field(default_factory=list)
    faces: dict[str, FaceLines] = field(default_factory=dict)
    libraries: list[str] = field(default_factory=list)
    polypaint: list[bytes] = field(default_factory=list)
    skipped: Counter[bytes] = field(default_factory=Counter)


def parse(content: bytes) -> Statements:
    """Sort the lines of an OBJ by their keywords."""
    found = Statements()
    block = found.faces.setdefault("", FaceLines())
    for line in _plain(content).split(b"\n"):
        keyword, _, rest = line.lstrip().replace(b"\t", b" ").partition(b" ")
        if keyword == b"v":
            found.vertices.append(rest)
        elif keyword == b"vt":
            found.texcoords.append(rest)
        elif keyword in (b"f", b"fo"):
            block.text.append(rest)
            block.above.append((len(found.vertices), len(found.texcoords)))
        elif keyword == b"usemtl":
            block = found.faces.setdefault(_text(rest), FaceLines())
        elif keyword == b"mtllib":
            found.libraries.append(_text(rest))
        elif keyword == _POLYPAINT:
            found.polypaint.append(rest)
        elif keyword[:1] not in (b"", b"#") and keyword not in _WITHOUT_EFFECT:
            found.skipped[keyword] += 1
    found.faces = {name: lines for name, lines in found.faces.items() if lines.text}
    return found


def library_names(content: bytes) -> list[str]:
    """Return the names in the `mtllib` lines of an OBJ, without parsing the rest."""
    return [_text(name) for name in re.findall(rb"(?m)^[ \t]*mtllib[ \t](.+)$", _plain(content))]


def report_skipped(statements: Statements, path: Path) -> None:
    """Warn about unsupported statements of an OBJ, such as lines and free-form surfaces."""
    if statements.skipped:
        named = [
            f"{count} {keyword[:20].decode('ascii', 'backslashreplace')}"
            for keyword, count in statements.skipped.most_common(_SHOWN_KEYWORDS)
        ]
        more = ", ..." if len(statements.skipped) > _SHOWN_KEYWORDS else ""
        log.warning(
            "%s: skipped statements other than polygons (%s%s).", path.name, ", ".join(named), more
        )


def numbers(lines: list[bytes], least: int, width: int) -> Floats:
    """Parse lines of numbers into a table.

    Args:
        lines: N lines of text; comments are ignored.
        least: minimum count of numbers in a line.
        width: number of columns of the table; extra numbers in a line are ignored.

    Returns:
        (N, width), padded with NaN where a line has fewer numbers.

    Raises:
        InvalidInput: if a line has too few numbers or contains anything else.
    """
    rows = [line.split() for line in without_comments(lines)]
    shortest = min(rows, key=len, default=[])
    if rows and len(shortest) < least:
        shown = b" ".join(shortest).decode("latin-1")[:60]
        raise InvalidInput(f"a line needs at least {least} numbers, got '{shown}'")
    table = np.full((width, len(rows)), np.nan)
    try:
        for column, values in zip(table, zip_longest(*rows, fillvalue=b"nan"), strict=False):
            column[:] = np.array(values, dtype=np.float64)
    except ValueError as error:
        raise InvalidInput(f"a line contains something other than numbers ({error})") from error
    return table.T


def without_comments(lines: list[bytes]) -> list[bytes]:
    """Remove comments from the ends of lines."""
    if not any(b"#" in line for line in lines):
        return lines
    return [line.partition(b"#")[0] for line in lines]


def vertex_table(statements: Statements, path: Path) -> tuple[Floats, Floats | None]:
    """Parse the vertices of an OBJ.

    Colours follow the coordinates (`v x y z r g b`, each in 0 to 1 or 0 to 255), or are stored in
    ZBrush's comments. Vertices without a colour become white.

    Returns:
        positions: (V, 3).
        colors: (V, 3) sRGB in [0, 1], or None if the file has no colours.
    """
    table = numbers(statements.vertices, least=3, width=6)
    positions, colors = table[:, :3], table[:, 3:]
    missing = np.asarray(np.isnan(colors).any(axis=1))
    if missing.all():
        return positions, _polypaint_colors(statements.polypaint, len(positions), path)
    scale = 255 if colors[~missing].max() > 1 else 1
    return positions, np.where(missing[:, None], 1.0, (colors / scale).clip(0, 1))


def _polypaint_colors(blocks: list[bytes], count: int, path: Path) -> Floats | None:
    """Parse ZBrush's vertex colours (V, 3), in [0, 1].

    Each vertex has two hexadecimal digits each of mask, red, green and blue. Missing or damaged
    colours give None.
    """
    if not blocks:
        return None
    try:
        levels = np.frombuffer(bytes.fromhex(b"".join(blocks).decode("ascii")), np.uint8)
        colors = levels.reshape(-1, 4)[:, 1:] / 255
    except ValueError:
        log.warning("%s: its ZBrush colours (#MRGB) are damaged: skipped.", path.name)
        return None
    if len(colors) != count:
        log.warning(
            "%s: ZBrush's #MRGB has %d colours for %d vertices: vertices without one are white.",
            path.name,
            len(colors),
            count,
        )
    white = np.ones((max(count - len(colors), 0), 3))
    return np.concatenate([colors[:count], white])


def _plain(content: bytes) -> bytes:
    """Convert an OBJ in UTF-8 or UTF-16 to UTF-8 with plain line ends, and join continued lines."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        content = content.decode("utf-16", errors="replace").encode()
    content = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\\" in content:  # a path in a comment may end in a backslash
        content = re.sub(rb"(?m)^[ \t]*#(?!MRGB).*$", b"", content)
        content = re.sub(rb"\\[ \t]*\n", b" ", content)
    return content


def _text(name: bytes) -> str:
    return name.decode("utf-8", errors="replace").strip()
