"""Write a catalogue's report page: a self-contained HTML file that needs no server."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from ..files import atomic_path
from .manifest import PARQUET, Row

SHEET = "index.html"
_MAX_ROWS = 2000  # more rows would slow browsers down
_PAGE = Path(__file__).with_name("sheet.html")


def write_sheet(rows: Sequence[Row], folder: Path) -> Path:
    """Write the report page with the failures first, and return its path.

    Raises:
        EnvironmentProblem: if the disk is full or read-only.
    """
    failed = sum(row.status == "failed" for row in rows)
    shown = sorted(rows, key=lambda row: row.status != "failed")[:_MAX_ROWS]
    summary = f"{len(rows) - failed:,} done, {failed:,} failed."
    if len(shown) < len(rows):
        summary += f" The first {_MAX_ROWS:,} are shown; {PARQUET} has all."
    values = {
        "title": html.escape(folder.resolve().name or "Catalogue"),
        "summary": summary,
        "rows": "\n".join(_line(row) for row in shown),
    }
    template = _PAGE.read_text(encoding="utf-8")
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)
    path = folder / SHEET
    with atomic_path(path) as partial:
        partial.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def _line(row: Row) -> str:
    mesh = row.outputs[0] if row.outputs else ""
    preview = next((o for o in row.outputs if o.endswith("-preview.png")), "")
    name = html.escape(row.id)
    longest = max(row.size, default=0.0)
    cells = [
        _cell(row.status, row.status),
        _cell(row.id, f'<a href="{quote(mesh)}">{name}</a>' if mesh else name),
        _cell(
            row.id,
            f'<a href="{quote(preview)}"><img loading="lazy" alt="{name}" src="{quote(preview)}">'
            "</a>"
            if preview
            else "",
        ),
        _number(row.triangles, f"{row.triangles:,}"),
        _cell(str(row.watertight), "yes" if row.watertight else "no"),
        _number(longest, " x ".join(f"{edge:.3g}" for edge in row.size)),
        _number(row.volume, f"{row.volume:.3g}"),
        _number(row.in_all, f"{row.in_all:.1f}"),
        _cell(row.error_kind, html.escape(row.error)),
    ]
    return f'<tr class="{row.status}">{"".join(cells)}</tr>'


def _cell(key: str, content: str) -> str:
    return f'<td data-key="{html.escape(key, quote=True)}">{content}</td>'


def _number(key: float, content: str) -> str:
    return f'<td class="number" data-key="{key}">{content}</td>'
