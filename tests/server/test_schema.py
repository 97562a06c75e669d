"""Generated requests, valid and invalid by the OpenAPI document, cause no server error."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest

from .conftest import Running


@pytest.mark.filterwarnings("ignore")
def test_no_request_is_a_server_error(running: Running):
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]
    tried: set[str] = set()

    for result in schema.get_all_operations():
        operation = result.ok()

        @hypothesis.settings(max_examples=15, deadline=None, database=None, derandomize=True)
        @hypothesis.given(case=operation.as_strategy())
        def run(case: Any) -> None:
            case.call_and_validate(checks=checks)

        run()
        tried.add(operation.label)
    assert len(tried) >= 10
