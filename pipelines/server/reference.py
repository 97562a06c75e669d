"""Render the API reference at /docs: plain HTML that uses no scripts and loads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem; border-bottom: 1px solid } h3 { margin: 2rem 0 0 }
code { font-size: 0.95em } table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: 0.2rem 1rem 0.2rem 0 }
td { border-top: 1px solid #8884 }
:root { color-scheme: light dark }
"""


def render_reference(document: Mapping[str, Any], root_path: str) -> str:
    """Render an OpenAPI document as HTML.

    Args:
        document: the server's OpenAPI document.
        root_path: path prefix under which a proxy serves the application; "" for none.
    """
    title, description = (escape(document["info"][k]) for k in ("title", "description"))
    groups: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["other"])[0]
            groups.setdefault(tag, []).append(
                "\n".join(_operation(f"{method.upper()} {root_path}{path}", operation, document))
            )
    sections = "\n".join(
        f"<h2>{escape(tag)}</h2>\n" + "\n".join(parts) for tag, parts in groups.items()
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1><p>{description} Also available as"
        f' <a href="{escape(root_path)}/openapi.json">OpenAPI</a>.</p>\n{sections}</html>'
    )


def _operation(
    call: str, operation: Mapping[str, Any], document: Mapping[str, Any]
) -> Iterator[str]:
    yield f"<h3><code>{escape(call)}</code></h3>"
    for paragraph in operation.get("description", "").split("\n\n"):
        yield f"<p>{escape(paragraph)}</p>"
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body:
        yield _table(_resolve(body["schema"], document), document)


def _table(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = []
    for name, field in schema.get("properties", {}).items():
        default = field.get("default")
        note = "required" if name in required else "" if default is None else json.dumps(default)
        rows.append(
            f"<tr><td><code>{escape(name)}</code><td>{escape(_type(field, document))}"
            f"<td>{escape(note)}<td>{escape(field.get('description', ''))}"
        )
    head = "<tr><th>field<th>type<th>default<th>meaning"
    return f"<table>{head}\n" + "\n".join(rows) + "</table>"


def _type(field: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        kinds = [_type(each, document) for each in field["anyOf"]]
        return " or ".join(kind for kind in dict.fromkeys(kinds) if kind != "null")
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if "$ref" in field:
        inner = _resolve(field, document)
        return "object of " + ", ".join(inner.get("properties", {}))
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}), document)}"
    return f"{field.get('type', 'any')}{_bounds(field)}"


def _bounds(field: Mapping[str, Any]) -> str:
    low = field.get("minimum", field.get("exclusiveMinimum"))
    high = field.get("maximum", field.get("exclusiveMaximum", 0) - 1)
    return "" if low is None or high < low else f" {low:,} to {high:,}"


def _resolve(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Mapping[str, Any] = document["components"]["schemas"][name] if name else schema
    return found
