"""Stand-ins for the work on an item; the start of the item's id selects the behaviour."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipelines.catalogue.work import State, make_row
from pipelines.errors import CheckpointError


def stub(folder: Path, seconds: float = 0.0) -> Callable[..., State]:
    """Return work that writes a file for each item, and logs its id to begun.txt when it starts."""

    def work(state: State, report: Callable[..., None] | None = None) -> State:
        id = state.task.item.id
        with (folder / "begun.txt").open("a") as notes:
            notes.write(f"{id}\n")
        time.sleep(seconds)
        if id.startswith("crash"):
            os._exit(9)
        if id.startswith("slow"):
            time.sleep(60)
        if id.startswith("bug"):
            raise ZeroDivisionError("by zero")
        if id.startswith("bad"):
            error = {"error_kind": "NothingInPicture", "error": "There is no object."}
            state.row = make_row(state.task, **error)
            return state
        place = folder / state.task.folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "mesh.obj").write_text(id)
        outputs = (f"{state.task.folder}/mesh.obj",)
        state.row = make_row(state.task, status="done", outputs=outputs)
        return state

    return work


def slow_to_load(folder: Path) -> Callable[..., State]:
    time.sleep(2.0)
    return stub(folder)


def unready(folder: Path) -> Callable[..., State]:
    raise CheckpointError("The weights are not there.")


def part_of(parts: tuple[str, ...], folder: Path) -> Callable[..., State]:
    """Return parts of the stub's work; each records its name in the item's seconds."""
    whole = stub(folder, 0.05)

    def work(state: State, report: Callable[..., None] | None = None) -> State:
        for part in parts:
            state.seconds[part] = float(len(state.seconds))
        if "finish" not in parts:
            return state
        ended = whole(state)
        assert ended.row is not None
        ended.row = replace(ended.row, seconds=dict(state.seconds))
        return ended

    return work
