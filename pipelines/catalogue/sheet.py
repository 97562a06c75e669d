"""Write a catalogue's report page: a self-contained HTML file that needs no server."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from ..files import atomic_path
from .manifest import PARQUET, Row

SHEET = "index.html"
_MAX_ROWS = 2000  # more rows would slow browsers down

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>
:root {{ color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif }}
body {{ margin: 1.5rem }}
table {{ border-collapse: collapse; width: 100% }}
th {{ position: sticky; top: 0; background: Canvas; cursor: pointer; text-align: left }}
th::after {{ content: " \\2195"; opacity: .4 }}
td, th {{ padding: .35rem .7rem; border-bottom: 1px solid #8884; vertical-align: middle }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }}
tr.failed {{ background: #d332 }}
img {{ height: 96px; display: block; border-radius: 4px }}
</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
<table><thead><tr>{heads}</tr></thead><tbody>
{rows}
</tbody></table>
<script>
for (const [column, head] of document.querySelectorAll("th").entries()) {{
  let up = false;
  head.onclick = () => {{
    up = !up;
    const body = document.querySelector("tbody");
    const key = row => row.cells[column].dataset.key;
    const numbers = "number" in head.dataset;
    const compare = numbers ? (a, b) => key(a) - key(b) : (a, b) => key(a).localeCompare(key(b));
    body.append(...[...body.rows].sort((a, b) => up ? compare(a, b) : compare(b, a)));
  }};
}}
</script></body></html>
"""
_HEADS = (
    ("status", ""),
    ("id", ""),
    ("preview", ""),
    ("triangles", "data-number"),
    ("watertight", ""),
    ("size", "data-number"),
    ("volume", "data-number"),
    ("seconds", "data-number"),
    ("error", ""),
)


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
    page = _PAGE.format(
        title=html.escape(folder.resolve().name or "Catalogue"),
        summary=summary,
        heads="".join(f"<th {kind}>{name}</th>" for name, kind in _HEADS),
        rows="\n".join(_line(row) for row in shown),
    )
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
