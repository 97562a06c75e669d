"""Declare every setting once: its name, type, default, bounds and help text.

The command line's flags, a catalogue's columns, the server's request body, a job's fingerprint and
the nodes' bounds derive from these models. This module imports neither torch nor `weights/`.

A value of None means the model's own default. An invalid value raises `InvalidInput` with a message
of one sentence.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, model_validator

from .declarations import BaseSettings
from .declarations import Setting as Setting
from .declarations import declared as declared
from .errors import InvalidInput

ReconstructionName = Literal[
    "photo",
    "instant-mesh-large",
    "instant-mesh-base",
    "instant-nerf-large",
    "instant-nerf-base",
    "triposr",
    "triposg",
]
MultiviewName = Literal["zero123plus-instantmesh", "zero123plus"]
Scheduler = Literal["euler_ancestral", "dpmpp_2m", "unipc"]
BackgroundModel = Literal[
    "u2net",
    "u2netp",
    "u2net_human_seg",
    "silueta",
    "isnet-general-use",
    "isnet-anime",
    "birefnet-general",
    "birefnet-general-lite",
    "birefnet-portrait",
]
BackgroundMethod = Literal["auto", "alpha", "plain", "none", BackgroundModel]
MeshFormat = Literal["obj", "glb", "ply", "stl", "3mf"]
MESH_FORMATS: tuple[MeshFormat, ...] = get_args(MeshFormat)
UpAxis = Literal["y", "z"]
Pivot = Literal["keep", "center", "bottom"]
TextureSource = Literal["pictures", "views", "triplane"]
TextureFormat = Literal["png", "jpeg", "webp"]
Dtype = Literal["auto", "float32", "float16", "bfloat16"]
License = Literal["any", "commercial"]

_ORIGIN = re.compile(r"\*|https?://[^/?#@\s]+")


class ViewSettings(BaseSettings):
    """Settings for sampling six views, or TripoSG's shape, from one image."""

    steps: int | None = Field(None, ge=1, le=1000, description="denoising steps")
    guidance: float | None = Field(
        None, ge=0, le=100, description="how strictly to follow the image; 1 or less turns this off"
    )
    scheduler: Scheduler = Field("euler_ancestral", description="sampling method")
    seed: int = Field(
        0, ge=0, le=2**64 - 1, description="seed of the views or the shape; 0 draws a random seed"
    )
    shift: float | None = Field(
        None, ge=0.1, le=100, description="above 1, triposg spends more steps on the coarse shape"
    )
    tokens: int | None = Field(
        None,
        ge=512,
        le=4096,
        description="number of latent vectors of triposg's shape: fewer are faster and coarser",
    )
    tries: int = Field(
        1, ge=1, le=16, description="number of seeds to try; the most plausible mesh is kept"
    )


class SurfaceSettings(BaseSettings):
    """Settings for extracting a mesh from a field."""

    resolution: int | None = Field(
        None, ge=32, le=512, description="cells along an edge of the surface grid"
    )
    chunk_size: int = Field(
        131072,
        ge=1,
        le=2**31,
        description="number of points evaluated at once: limits memory, does not change the mesh",
    )
    threshold: float | None = Field(
        None,
        ge=1e-6,
        le=1_000_000,
        description="density at which the surface lies, for triposr and instant-nerf",
    )
    exact: bool = Field(False, description="evaluate all grid points, not only near the surface")
    min_part_share: float = Field(
        1.0, ge=0, le=1, description="smallest component to keep, as a share of the largest"
    )
    colors: bool = Field(True, description="give each vertex a colour")


class OutputSettings(BaseSettings):
    """Settings for mesh post-processing and for the output files."""

    format: MeshFormat = Field("obj", description="format of the mesh file")
    up_axis: UpAxis = Field("y", description="up axis of the mesh file; with y, the front faces +z")
    solid: bool = Field(
        False, description="make one closed, printable body without inner walls (needs libigl)"
    )
    orient: bool = Field(
        False, description="turn the mesh so that it needs the least support on a printer"
    )
    printer: str | None = Field(
        None,
        description="the printer's volume in millimetres, such as 220x220x250: report whether the"
        " mesh fits, and its walls and overhangs",
    )
    size: float = Field(
        0.0,
        ge=0,
        le=10**9,
        description="longest side of the mesh in the file's unit (mm in STL and 3MF); 0: unchanged",
    )
    pivot: Pivot = Field("keep", description="where the mesh's origin is")
    max_faces: int | None = Field(
        None, ge=4, le=10**9, description="decimate to at most this many triangles"
    )
    quads: int | None = Field(
        None,
        ge=100,
        le=1_000_000,
        description="remesh to about this many quads (needs pynanoinstantmeshes)",
    )
    texture: int | None = Field(
        None,
        ge=512,
        le=4096,
        description="bake a texture of at most this many pixels per side; it is smaller if the"
        " images have less detail",
    )
    texture_from: TextureSource = Field(
        "pictures",
        description="source of the texture: pictures (the photograph, then views, then triplane),"
        " views (the same without the photograph), or triplane alone",
    )
    texture_format: TextureFormat = Field("png", description="format of the texture in a GLB")
    orbit: int = Field(
        0, ge=0, le=360, description="save this many frames around the object and an animated WebP"
    )
    save_views: bool = Field(False, description="save the framed image and the six views")
    previews: bool = Field(False, description="save an image of the mesh from three sides")
    video: bool = Field(False, description="save an MP4 video around the mesh (needs PyAV)")

    @model_validator(mode="after")
    def _check_combinations(self) -> OutputSettings:
        if self.quads is not None and self.max_faces is not None:
            raise InvalidInput("quads sets the number of faces: leave out max_faces.")
        if self.texture_format != "png" and self.format != "glb":
            raise InvalidInput(
                f"texture_format {self.texture_format} needs format glb, got {self.format}."
            )
        return self


class Settings(BaseSettings):
    """Settings for making a mesh from an image."""

    remove_bg: BackgroundMethod = Field(
        "auto",
        description="how the background is removed; auto uses the image's alpha channel if it"
        " shows an object, plain if the image's border has one colour, otherwise u2net",
    )
    alpha_threshold: float = Field(
        0.05, ge=0, le=1, description="mask values below this count as background"
    )
    foreground_ratio: float | None = Field(
        0.85, ge=0.1, le=1, description="share of the framed image's side that the object fills"
    )
    elevation: float = Field(
        0.0,
        ge=-80,
        le=80,
        description="the camera's elevation in degrees, for several photographs of one object",
    )
    views: ViewSettings = Field(default_factory=ViewSettings)
    surface: SurfaceSettings = Field(default_factory=SurfaceSettings)


class JobSettings(Settings):
    """All settings of a job, except its images, its folder and the loading of models."""

    model: ReconstructionName = Field("photo", description="reconstruction model")
    views_model: MultiviewName | None = Field(None, description="multiview model")
    license: License = Field(
        "any", description="use any model, or only those whose weights allow commercial use"
    )
    output: OutputSettings = Field(default_factory=OutputSettings)


class LoadSettings(BaseSettings):
    """Settings of model loading."""

    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:[0-9]+)?)$",
        description="auto, cuda, cuda:1 and so on, mps or cpu",
    )
    dtype: Dtype = Field("auto", description="precision")
    offload: bool = Field(
        False, description="keep only the running model on the device: slower, but less memory"
    )
    models_dir: Path | None = Field(
        None, description="folder of weights: searched first, and filled by downloads"
    )

    @property
    def models_dirs(self) -> list[Path]:
        """The folders to search for weights before the Hugging Face cache."""
        return [self.models_dir] if self.models_dir else []


class CatalogueSettings(BaseSettings):
    """Settings of a catalogue's run: its workers, and how it handles failures."""

    retry_failed: bool = Field(False, description="retry items that failed in earlier runs")
    stop_after: int = Field(
        20, ge=0, le=10**9, description="end the run after this many failures in a row; 0: never"
    )
    item_timeout: float = Field(3600.0, ge=1, le=10**6, description="timeout of one item")
    workers: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="workers per device (default: one per GPU; on a CPU, the number of cores"
        " divided by --threads; on a cluster, as many as fit)",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="threads per worker; on a CPU, their number changes the last digits of results"
        " (default: 1 for embedded models and with GPUs, otherwise all)",
    )
    engine: Literal["processes", "ray"] | None = Field(
        None,
        description="processes on this machine, or a Ray cluster (requirements-cluster.txt;"
        " default: ray with --address, else processes)",
    )
    address: str | None = Field(
        None, description="address of a Ray cluster; 'auto' is the one this machine belongs to"
    )
    gpus: float = Field(
        1.0, ge=0, le=16, description="share of a GPU for each worker of a Ray cluster"
    )


class ServerSettings(BaseSettings):
    """Settings of the server, besides those of model loading."""

    host: str = Field("127.0.0.1", description="address; by default, only this machine can connect")
    port: int = Field(8000, ge=0, le=65535, description="port; 0 takes a free one")
    folder: Path = Field(Path("~/.image-to-3d-server"), description="folder of jobs and results")
    no_page: bool = Field(False, description="serve the API without the web page")
    model: ReconstructionName = Field("photo", description="model of jobs that do not name one")
    allow_models: tuple[ReconstructionName, ...] | None = Field(
        None,
        description="further models that jobs may use, separated by commas; missing weights are"
        " downloaded when first needed (default: all models whose weights are on this machine)",
    )
    license: License = Field(
        "any", description="use any model, or only those whose weights allow commercial use"
    )
    engine: Literal["local", "ray"] = Field(
        "local",
        description="local processes, or actors of a Ray cluster (requirements-cluster.txt)",
    )
    workers: int = Field(
        1, ge=1, le=4096, description="workers per device, or number of Ray actors"
    )
    ray_address: str = Field("auto", description="address of the Ray cluster")
    ray_actors: int = Field(
        1,
        ge=1,
        le=4096,
        description="number of Ray actors; the larger of this and --workers counts",
    )
    ray_gpus: float = Field(1, ge=0, le=16, description="share of a GPU for each actor")
    queue: int = Field(32, ge=0, le=10**6, description="maximum number of waiting jobs")
    limit: float = Field(3600, ge=1, le=10**6, description="timeout of a job")
    keep: float = Field(24, ge=0, le=10**6, description="how long results are kept")
    wait: float = Field(2, ge=0, le=3600, description="how long a request waits for its result")
    key: tuple[str, ...] = Field(
        (), repr=False, description="API key; the variable IMAGE_TO_3D_KEY is safer"
    )
    keys: Path | None = Field(
        None, description="file with the SHA-256 of each accepted key in hexadecimal, one per line"
    )
    public_url: str | None = Field(None, description="server's URL behind a proxy, used for links")
    allow_private: bool = Field(False, description="allow images and webhooks in private networks")
    cors_origin: tuple[str, ...] = Field(
        (),
        description="let web pages of this origin use the API, such as https://example.com, or *"
        " for all; may be repeated",
    )
    webhook_secret: str = Field("", repr=False, description="key to sign webhooks; empty: unsigned")

    @model_validator(mode="after")
    def _check_access(self) -> ServerSettings:
        if not all(self.key):
            raise InvalidInput("--key must not be empty.")
        for origin in self.cors_origin:
            if not _ORIGIN.fullmatch(origin):
                raise InvalidInput(
                    "--cors-origin must be like https://example.com, without a path, got"
                    f" {origin!r}."
                )
        if self.public_url and not re.match("https?:", self.public_url, re.IGNORECASE):
            raise InvalidInput(
                f"--public-url must begin with http:// or https://, got {self.public_url!r}."
            )
        return self
