"""Record the result of each item in one row, with one schema for successes and failures."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ..errors import EnvironmentProblem, InvalidInput
from ..files import atomic_path

log = logging.getLogger(__name__)

JSON_LINES, PARQUET = "manifest.jsonl", "manifest.parquet"


@dataclass(frozen=True)
class Row:
    """The result of an item.

    Attributes:
        id, picture: see `Item`.
        picture_sha256: SHA-256 of the image file in hexadecimal; empty if it was unreadable.
        outputs: paths of the result files relative to the catalogue's folder, the mesh first.
        error_kind, error: class and message of the error; empty if done.
        seed: seed of the views; 0 if the model needs no seed.
        model, revision: name and revision of the reconstruction model. The revision is a commit
            on the hub, or this library's version for embedded models.
        fingerprint: digest of all settings that change the result; see `recipe.Recipe`.
        triangles, watertight, volume, size: properties of the mesh, see
            `meshes.report.MeshReport`.
        seconds: duration of each stage.
        peak_memory: peak memory of the process during this item, in bytes.
        worker: host name and process id, as "host:pid".
        version: version of this library.
        licenses: licences of the weights in use, by the name of the model.
        print: measurements for 3D printing, see `meshes.printing.PrintReport`; empty if the
            settings do not request them.
    """

    id: str
    picture: str
    status: Literal["done", "failed"]
    fingerprint: str
    picture_sha256: str = ""
    outputs: tuple[str, ...] = ()
    error_kind: str = ""
    error: str = ""
    seed: int = 0
    model: str = ""
    revision: str = ""
    triangles: int = 0
    watertight: bool = False
    volume: float = 0.0
    size: tuple[float, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory: int = 0
    worker: str = ""
    version: str = ""
    licenses: Mapping[str, str] = field(default_factory=dict)
    print: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def in_all(self) -> float:
        """Total duration of all stages in seconds."""
        return sum(self.seconds.values())


_NAMES = {one.name for one in fields(Row)}


class Manifest:
    """The rows of a catalogue, which are written to disk immediately.

    Args:
        folder: the catalogue's folder.

    Raises:
        InvalidInput: if the folder's manifest is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._path = folder, folder / JSON_LINES
        self.rows: dict[str, Row] = {}
        if self._path.exists():
            self._read()

    def _read(self) -> None:
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = _row_of(json.loads(line))
            except (ValueError, TypeError, AttributeError, KeyError) as error:
                raise InvalidInput(
                    f"Line {number} of {self._path} is not a catalogue's row: repair or remove it,"
                    " or choose another folder."
                ) from error
            self.rows[row.id] = row
        if len(whole) < len(content):  # a crash truncated the last row
            with self._path.open("r+b") as file:
                file.truncate(len(whole))

    def add(self, row: Row) -> None:
        """Append a row, which replaces an earlier row with the same id.

        Raises:
            EnvironmentProblem: if the disk is full or read-only.
        """
        try:
            with self._path.open("ab") as file:
                file.write(_json(row) + b"\n")
        except OSError as error:
            raise EnvironmentProblem(
                f"could not write {self._path}: {error.strerror}. Finished items are kept: make"
                " space and run the same command again."
            ) from error
        self.rows[row.id] = row

    def finish(self, ids: Iterable[str]) -> list[Row]:
        """Return the rows of the given ids; write them as Parquet if pyarrow is installed."""
        rows = [self.rows[id] for id in ids if id in self.rows]
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            log.info("skipped %s: pyarrow is not installed; %s has all rows", PARQUET, JSON_LINES)
            return rows
        text, number = pa.string(), pa.float64()
        kinds = {
            "int": pa.int64(),
            "bool": pa.bool_(),
            "float": number,
            "tuple[str, ...]": pa.list_(text),
            "tuple[float, ...]": pa.list_(number),
            "Mapping[str, str]": pa.map_(text, text),
            "Mapping[str, float]": pa.map_(text, number),
            "Mapping[str, float | None]": pa.map_(text, number),
        }
        schema = pa.schema([(one.name, kinds.get(str(one.type), text)) for one in fields(Row)])
        table = pa.Table.from_pylist([_columns(row) for row in rows], schema)
        with atomic_path(self._path.with_name(PARQUET)) as partial:
            pq.write_table(table, partial)
        return rows


def _json(row: Row) -> bytes:
    """Encode a row as one line of JSON; as ASCII if a file name is not valid Unicode."""
    try:
        return json.dumps(asdict(row), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(asdict(row)).encode()


def _columns(row: Row) -> dict[str, Any]:
    """Return a row's columns for Parquet; escape text that is not valid Unicode."""
    values = {
        name: value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
        for name, value in asdict(row).items()
    }
    return values | {
        name: [*getattr(row, name).items()] for name in ("seconds", "licenses", "print")
    }


def _row_of(content: dict[str, Any]) -> Row:
    known = {name: value for name, value in content.items() if name in _NAMES}
    known["outputs"], known["size"] = tuple(known["outputs"]), tuple(known["size"])
    return Row(**known)
