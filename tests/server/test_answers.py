"""Answers to clients about a job."""

from __future__ import annotations

import pytest

from pipelines.server.errors import without_paths


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("put it at /srv/models/TripoSR/model.ckpt.", "put it at model.ckpt."),
        ("could not read '/tmp/a/picture-0'.", "could not read 'picture-0'."),
        (r"could not open C:\Users\me\models\a.ckpt", "could not open a.ckpt"),
        ("see https://example.com/a/b.png", "see https://example.com/a/b.png"),
        ("width and/or height", "width and/or height"),
        ("POST /api is 1/2", "POST /api is 1/2"),
    ],
)
def test_without_paths_keeps_the_last_part(message, said):
    assert without_paths(message) == said
