"""Offer jobs to an agent as tools of the Model Context Protocol, over stdin and stdout."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field, WithJsonSchema, create_model

from .. import __version__, job
from ..devices import choose_device
from ..errors import EnvironmentProblem, ImageTo3DError, InvalidInput
from ..multiview.photographs import Viewpoints
from ..settings import JobSettings, LoadSettings, declared
from ..weights.inventory import best_model, duration, gigabytes, licenses, missing
from ..weights.presets import RECONSTRUCTION_PRESETS
from .folders import Folders
from .jobs import AgentJob, AgentJobs

MAX_WAIT_S = 50.0  # clients abandon requests after a minute
_FIXED = {"previews": True}
_SETTINGS = {name: one for name, one in declared(JobSettings).items() if name not in _FIXED}
_INSTRUCTIONS = """Turn one image of an object into a textured 3D mesh.
Call start, then status with wait_s until the state is done, then result, and look at its image.
Read images from, and write results to, these folders only: {}.
The model photo needs no download and takes seconds; others make better shapes."""

#: The settings of a job by name, as `JobSettings.flat` returns them; missing ones keep defaults.
SettingsByName = Annotated[
    dict[str, Any],
    WithJsonSchema(
        create_model(
            "Settings", **{name: (one.annotation, one.default) for name, one in _SETTINGS.items()}
        ).model_json_schema()
    ),
]


@dataclass(frozen=True)
class ModelInfo:
    """A model, as the tool `list_models` returns it."""

    name: str
    license: str
    gigabytes: float
    downloaded: bool
    expected_time: str


@dataclass(frozen=True)
class JobStatus:
    """The state of a job, as the tools `start`, `status` and `cancel` return it."""

    job: str
    state: str
    stage: str
    done: int
    total: int
    seconds: float
    expected_time: str
    message: str


class Tools:
    """The tools of an agent: each public method is a tool, described by its docstring.

    Args:
        folders: folders that the agent may use.
        jobs: runs the jobs.
        loading: settings of model loading.
        model: model of jobs that do not name one; None for the best downloaded model.
    """

    def __init__(
        self, folders: Folders, jobs: AgentJobs, loading: LoadSettings, model: str | None = None
    ) -> None:
        self._folders, self._jobs, self._model = folders, jobs, model
        self._models_dirs = loading.models_dirs
        self._on_cpu = choose_device(loading.device).type == "cpu"

    def list_models(self) -> list[ModelInfo]:
        """List the models with licence, download size, and expected time on this machine."""
        return [
            ModelInfo(
                name,
                licenses(name),
                gigabytes(name),
                not missing(name, self._models_dirs),
                self._expected(name),
            )
            for name in RECONSTRUCTION_PRESETS
        ]

    def start(
        self,
        image: Annotated[str, Field(description="path of an image of one object")],
        settings: SettingsByName = {},  # noqa: B006 (never changed; the SDK publishes the default)
        output: Annotated[
            str, Field(description="folder for results; by default the first allowed folder")
        ] = "",
        sides: Annotated[
            dict[str, str],
            Field(
                description="paths of photographs of the object's other sides, by side: left, back,"
                " right or an azimuth in degrees (90 is the object's own left); image is its front"
            ),
        ] = {},  # noqa: B006
    ) -> JobStatus:
        """Start a job that makes a mesh from an image, and return its id immediately."""
        images = [self._folders.image(path) for path in (image, *sides.values())]
        chosen = self._job_settings(settings)
        cameras = Viewpoints.of(("front", *sides), chosen) if sides else None
        job.check_images(chosen, len(images), cameras)
        folder = self._folders.new_folder(output, images[0].stem)
        return self._status(self._jobs.start(images, cameras, chosen, folder))

    def status(
        self,
        job: str,
        wait_s: Annotated[
            float, Field(ge=0, le=MAX_WAIT_S, description="seconds to wait for the job to end")
        ] = 0.0,
    ) -> JobStatus:
        """Return a job's state (queued, running, done, failed or cancelled) and its stage."""
        found = self._jobs.get(job)
        self._jobs.wait(found, wait_s)
        return self._status(found)

    def cancel(self, job: str) -> JobStatus:
        """Cancel a job and remove its files; has no effect if it has already ended."""
        found = self._jobs.get(job)
        self._jobs.cancel(found)
        return self._status(found)

    def result(self, job: str) -> list[Any]:
        """Return a finished job's files, statistics and licence, and an image of three sides."""
        found = self._jobs.get(job)
        if found.result is None:
            raise InvalidInput(f"Job {job} is {found.state}: {found.message or 'call status.'}")
        made = found.result
        assert made.report is not None
        facts = {
            "files": [str(path) for path in made.files],
            "model": found.settings.model,
            "license": licenses(found.settings.model),
            "seed": made.seed,
            "statistics": asdict(made.report),
            "tries": [str(one) for one in made.tries],
            "seconds": {stage: round(took, 2) for stage, took in made.seconds.items()},
        }
        return [facts, *(Image(path) for path in made.files if path.name.endswith("-preview.png"))]

    def _job_settings(self, values: dict[str, Any]) -> JobSettings:
        if unknown := sorted(values.keys() - _SETTINGS.keys()):
            raise InvalidInput(f"There is no setting {unknown[0]!r}: see the schema of start.")
        model = (
            values.get("model")
            or self._model
            or best_model(self._on_cpu, self._models_dirs, values.get("license", "any"))
        )
        chosen = JobSettings.from_flat(values | {"model": model} | _FIXED)
        job.check(chosen)
        if missing(chosen.model, self._models_dirs):
            raise EnvironmentProblem(
                f"The weights of {chosen.model} ({gigabytes(chosen.model):.1f} GB) are not"
                f" downloaded: ask the user to run 'image-to-3d download {chosen.model}', or set"
                " model to photo."
            )
        return chosen

    def _expected(self, model: str) -> str:
        took = self._jobs.last_seconds(model)
        return duration(model, self._on_cpu) if took is None else f"{took:.0f} s, as last time"

    def _status(self, job: AgentJob) -> JobStatus:
        return JobStatus(
            job.id,
            job.state,
            job.stage,
            job.done,
            job.total,
            round(job.seconds, 1),
            self._expected(job.settings.model),
            job.message,
        )


def make_server(tools: Tools, folders: Folders) -> MCPServer:
    """Return a server that offers the public methods of `tools`."""
    server = MCPServer(
        "image-to-3d",
        version=__version__,
        instructions=_INSTRUCTIONS.format(folders),
        log_level="WARNING",
    )
    for method in (tools.list_models, tools.start, tools.status, tools.cancel):
        server.add_tool(_with_tool_errors(method))
    server.add_tool(_with_tool_errors(tools.result), structured_output=False)
    return server


def _with_tool_errors(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a tool so that the agent gets the message of an `ImageTo3DError`."""

    @functools.wraps(method)
    def tool(**arguments: Any) -> Any:
        try:
            return method(**arguments)
        except ImageTo3DError as error:
            raise ToolError(str(error)) from error

    return tool


def serve(
    folders: Sequence[Path], loading: LoadSettings, *, model: str | None, limit: float
) -> None:
    """Serve one agent over stdin and stdout until it closes stdin.

    Args:
        folders: see `Folders`.
        loading: see `Tools`.
        model: see `Tools`.
        limit: timeout of a job in seconds.

    Raises:
        InvalidInput, EnvironmentProblem: if a folder is missing or not writable.
    """
    allowed = Folders(folders)
    jobs = AgentJobs(functools.partial(job.Runner, loading), limit=limit)
    try:
        make_server(Tools(allowed, jobs, loading, model), allowed).run("stdio")
    finally:
        jobs.close()
