"""API keys."""

from __future__ import annotations

import hashlib

import pytest

pytest.importorskip("fastapi", reason="the server's packages are not installed")

from pipelines.errors import InvalidInput
from pipelines.server.auth import Keys, digest, read_digests
from pipelines.server.errors import ApiError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _status(keys: Keys, key: str) -> int:
    try:
        keys.owner(key)
    except ApiError as error:
        return error.status
    return 200


def test_digest_is_sha256():
    assert digest("one") == hashlib.sha256(b"one").hexdigest()


def test_owner_without_keys_is_everybody():
    assert Keys([]).owner("anything") == ""


def test_owner_correct_key_passes_however_many_wrong_ones_came():
    keys = Keys([digest("one")], guesses=3)
    statuses = [_status(keys, "wrong") for _ in range(100)]
    assert statuses == [401] * 3 + [429] * 97
    assert keys.owner("one") == digest("one")


def test_owner_wrong_keys_are_answered_again_after_a_while():
    clock = Clock()
    keys = Keys([digest("one")], guesses=2, guesses_per_s=1.0, clock=clock)
    assert [_status(keys, "wrong") for _ in range(3)] == [401, 401, 429]
    clock.now = 1.5
    assert [_status(keys, "wrong") for _ in range(2)] == [401, 429]


def test_owner_missing_key_is_no_guess():
    keys = Keys([digest("one")], guesses=1)
    assert [_status(keys, "") for _ in range(5)] == [401] * 5
    assert _status(keys, "wrong") == 401


@pytest.mark.parametrize("header", ["Bearer one", "bearer one", "BEARER  one "])
def test_owner_in_header_ignores_the_case_of_the_scheme(header):
    assert Keys([digest("one")]).owner_in_header(header) == digest("one")


@pytest.mark.parametrize("header", ["", "Basic b25lOm9uZQ==", "one"])
def test_owner_in_header_without_bearer_token_is_none(header):
    assert Keys([digest("one")]).owner_in_header(header) is None


def test_read_digests_takes_upper_case_and_a_bom(tmp_path):
    path = tmp_path / "keys.txt"
    path.write_text(f"\ufeff{digest('one').upper()}\n\n{digest('two')}\n", encoding="utf-8")
    assert read_digests(path) == [digest("one"), digest("two")]


@pytest.mark.parametrize("content", ["", " \n\n", "one\n", f"{'0' * 63}\n", f"{'g' * 64}\n"])
def test_read_digests_refuses_empty_and_malformed_files(tmp_path, content):
    path = tmp_path / "keys.txt"
    path.write_text(content)
    with pytest.raises(InvalidInput, match=r"keys\.txt"):
        read_digests(path)


def test_read_digests_missing_file_is_invalid(tmp_path):
    with pytest.raises(InvalidInput, match="could not read"):
        read_digests(tmp_path / "none.txt")
