"""The reference at /docs."""

from __future__ import annotations

from .conftest import FETCH, START


def test_reference_shows_every_endpoint_and_field_and_loads_nothing(serve):
    client = serve()
    page = client.get("/docs")
    document = client.get("/openapi.json").json()
    for path in document["paths"]:
        assert f" {path}</code>" in page.text
    for field in document["components"]["schemas"]["ImageTo3DRequest"]["properties"]:
        assert f"<code>{field}</code>" in page.text
    assert "--model" in page.text, "the description explains a missing model_id"
    assert "://" not in page.text
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_openapi_names_the_bodies_that_clients_send(serve):
    document = serve().get("/openapi.json").json()
    bodies = {
        path: document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        for path in (START, f"{FETCH}/{{id}}", "/send")
    }
    for path, name in zip(bodies, ("ImageTo3DRequest", "Keyed", "Hunyuan"), strict=True):
        assert bodies[path]["schema"]["$ref"] == f"#/components/schemas/{name}"
        assert document["components"]["schemas"][name]["properties"]
