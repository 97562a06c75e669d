"""Read lists of images: text, CSV, JSON Lines and Parquet."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: Name of the column with the image's path or URL.
PICTURE = "picture"
# UTF-32 comes first, because its byte order mark starts with the mark of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_list(path: Path) -> list[dict[str, Any]]:
    """Return the non-empty rows of a list.

    Args:
        path: a file whose suffix is one of `READERS`.

    Raises:
        ImportError: if a package for this file format is missing.
        Exception: from csv, json or pyarrow, if the list is damaged.
    """
    return list(READERS[path.suffix.lower()](path))


def _opened(path: Path) -> io.StringIO:
    """Decode a file in the encoding of its byte order mark, or else in UTF-8."""
    content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8-sig")
    return io.StringIO(content.decode(encoding), newline="")


def _text_rows(path: Path) -> Iterator[dict[str, Any]]:
    for line in _opened(path):
        if line.strip() and not line.startswith("#"):
            yield {PICTURE: line.strip()}


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    file = _opened(path)
    delimiter = max(",;\t", key=file.readline().count)
    file.seek(0)
    for row in csv.DictReader(file, strict=True, delimiter=delimiter):
        extra = row.pop(None, [])  # cells beyond the header
        if not any((*row.values(), *extra)):
            continue
        if any(extra) or None in row.values():
            cells = [*row.values(), *extra]
            raise ValueError(f"the row {cells} has more or fewer cells than the header")
        yield row


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    for line in _opened(path):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"a line is not a JSON object: {line.strip()[:60]}")
            yield row


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet

    yield from pyarrow.parquet.read_table(path).to_pylist()


READERS: dict[str, Callable[[Path], Iterator[dict[str, Any]]]] = {
    ".txt": _text_rows,
    ".csv": _csv_rows,
    ".jsonl": _json_rows,
    ".ndjson": _json_rows,
    ".parquet": _parquet_rows,
}
