"""Helpers to declare endpoints: document request bodies, and support HEAD wherever GET works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_Handler = TypeVar("_Handler", bound=Callable[..., Any])
_SCHEMAS = "#/components/schemas/{model}"


def get(app: FastAPI, path: str, **options: Any) -> Callable[[_Handler], _Handler]:
    """Declare an endpoint for GET, and for HEAD, which is omitted from the documentation."""

    def register(handler: _Handler) -> _Handler:
        app.head(path, include_in_schema=False)(handler)
        return app.get(path, **options)(handler)

    return register


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
