"""Errors on ComfyUI's page: the class with its module, and the message."""

from __future__ import annotations

import pickle

import pytest

from pipelines.errors import EnvironmentProblem, InvalidInput
from pipelines.modelslab.errors import QuotaExceeded


def _raised(nodes, error: Exception) -> Exception:
    @nodes.errors.explained
    def execute() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        execute()
    return caught.value


@pytest.mark.parametrize("kind", [InvalidInput, EnvironmentProblem, QuotaExceeded])
def test_explained_shows_a_short_module_and_keeps_the_class(nodes, kind):
    shown = _raised(nodes, kind("what to do"))
    assert f"{type(shown).__module__}.{type(shown).__qualname__}" == f"image_to_3d.{kind.__name__}"
    assert isinstance(shown, kind)
    assert str(shown) == "what to do"


def test_explained_errors_survive_pickling(nodes):
    error = QuotaExceeded("too many", retry_after=7.0)
    error.job_id = "3"
    back = pickle.loads(pickle.dumps(_raised(nodes, error)))
    assert type(back) is QuotaExceeded
    assert (back.args, back.retry_after, back.job_id) == (("too many",), 7.0, "3")


def test_explained_leaves_other_errors_alone(nodes):
    error = MemoryError("full")
    assert _raised(nodes, error) is error


def test_explained_names_a_missing_package(nodes):
    @nodes.errors.explained
    def execute() -> None:
        import a_package_that_is_missing  # noqa: F401

    with pytest.raises(
        EnvironmentProblem, match="'a_package_that_is_missing' is missing"
    ) as caught:
        execute()
    assert type(caught.value).__module__ == "image_to_3d"
