"""Document the request bodies of the endpoints."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_SCHEMAS = "#/components/schemas/{model}"


def body_of(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """Return the OpenAPI description of a body that the endpoint reads with `BodyReader`."""
    schema = {"$ref": _SCHEMAS.format(model=model.__name__)}
    content = {
        kind: {"schema": schema}
        for kind in ("application/json", "application/x-www-form-urlencoded")
    }
    return {"requestBody": {"required": required, "content": content}}


def document_bodies(app: FastAPI, *models: type[BaseModel]) -> None:
    """Add the schemas to which `body_of` refers to the OpenAPI document."""
    without_bodies = app.openapi

    def openapi() -> dict[str, Any]:
        document = without_bodies()
        _, schema = models_json_schema(
            [(model, "validation") for model in models], ref_template=_SCHEMAS
        )
        document.setdefault("components", {}).setdefault("schemas", {}).update(schema["$defs"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]
