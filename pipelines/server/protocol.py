"""Pydantic models of the requests and responses of both APIs.

Sources: ModelsLab's public documentation of the v6 API, including the seed page and the newer
request format; the api_server of Hunyuan3D-2, as its Blender add-on and blender-mcp use it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    create_model,
    model_validator,
)

from ..net import parse_url
from ..settings import JobSettings, declared
from ..weights.presets import choose_views_model

#: ModelsLab's names of models, and this library's names for them.
ALIASES = {"instantmesh": "instant-mesh-large"}
_SETTINGS = declared(JobSettings)
#: Settings that are not in `MORE_SETTINGS`: requests use ModelsLab's names for them, the operator
#: chooses them, or the server does not serve their files.
_OTHERS = {
    *("model", "remove_bg", "foreground_ratio", "resolution", "chunk_size", "seed", "texture"),
    *("max_faces", "format", "license", "views_model"),
    *("previews", "video", "orbit", "save_views"),
}
MORE_SETTINGS = [name for name in _SETTINGS if name not in _OTHERS]
VIEWS = 6
#: Room for 20 MiB of images in base64.
MAX_BODY_BYTES = 28 * 2**20


def _yes_or_no(value: Any) -> Any:
    return {"yes": True, "no": False}.get(value.lower(), value) if isinstance(value, str) else value


def _web_address(value: str) -> str:
    if value:
        parse_url(value)
    return value


def _image_source(value: str) -> str:
    return _web_address(value) if value[:6].lower().startswith(("http:", "https:")) else value


WebAddress = Annotated[str, AfterValidator(_web_address)]
ImageSource = Annotated[str, AfterValidator(_image_source)]
TrackId = Annotated[str, Field(max_length=1000)] | Annotated[int, Field(ge=-(2**63), lt=2**63)]
YesNo = Annotated[bool, BeforeValidator(_yes_or_no)]


def names_of(models: Iterable[str]) -> list[str]:
    """Return the names that clients may use for these models, including aliases."""
    wanted = set(models)
    return [*wanted, *(alias for alias, model in ALIASES.items() if model in wanted)]


def _like(name: str, default: Any, **changed: Any) -> Any:
    """Return a field with the bounds and the description of a setting, unless they are changed."""
    setting = _SETTINGS[name]
    text = f"{setting.help[:1].upper()}{setting.help[1:]}."
    own = {"ge": setting.low, "le": setting.high, "description": text}
    return Field(default, **own | changed)


class Body(BaseModel):
    """Base of request bodies. Unknown fields are ignored; null and "" count as missing."""

    model_config = ConfigDict(extra="ignore")
    MAX_BYTES: ClassVar[int] = 64 * 2**10

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value not in (None, "")}


class Keyed(Body):
    """A body that contains the API key, as in ModelsLab's API."""

    key: str = Field("", max_length=500, description="API key; a server on loopback may need none.")


class CameraAngles(Body):
    """The direction from which an image shows the object."""

    azimuth: float = Field(ge=-360, le=360, description="Degrees counter-clockwise from above.")
    elevation: float = Field(ge=-89, le=89, description="Degrees above the horizon.")
    distance: float = Field(4.0, gt=0.1, le=100)
    fov: float = Field(30.0, ge=1, le=150, description="Vertical field of view in degrees.")


_more_fields: dict[str, Any] = {
    name: (get_args(_SETTINGS[name].annotation)[0] | None, _like(name, None))
    for name in MORE_SETTINGS
}
_MoreSettings = create_model("_MoreSettings", **_more_fields)


class JobRequest(_MoreSettings):
    """A job's settings: everything that a worker needs besides the images."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model_id: str = Field(
        "", max_length=100, description="Name of the model; empty for the server's default."
    )
    render: YesNo = Field(False, description="Also make a video of an orbit around the object.")
    foreground_ratio: float = _like("foreground_ratio", 0.85)
    remove_bg: YesNo = Field(False, description="Remove the background.")
    resolution: int = _like("resolution", 256)
    chunk_size: int = _like("chunk_size", 8192, le=12_000)
    seed: int = _like("seed", 0, le=2**32 - 1)
    temp: YesNo = Field(False, description="Keep the results for one hour only.")
    output_format: Literal["obj", "stl", "ply", "glb"] = "obj"
    cameras: list[CameraAngles] | None = Field(
        None, min_length=1, max_length=24, description="For multi_image: one camera for each image."
    )
    sides: list[str | float] | None = Field(
        None,
        min_length=1,
        max_length=24,
        description="For multi_image, instead of cameras: the side that each photograph shows:"
        " front, left, back, right or an azimuth in degrees. Missing sides are generated.",
    )
    texture: int = _like("texture", 0, ge=0)
    max_faces: int = _like("max_faces", 0, ge=0, le=10_000_000)

    @property
    def model(self) -> str:
        """The model's name in this library."""
        return ALIASES.get(self.model_id, self.model_id) or "photo"

    @property
    def views_model(self) -> str | None:
        """The multiview model that the job needs, for its shape or its colours."""
        source = self.more_settings.get("texture_from", "pictures")
        return choose_views_model(self.model, None, source)

    @property
    def more_settings(self) -> dict[str, Any]:
        """Settings that ModelsLab's API lacks, by name; only those that are set."""
        return self.model_dump(include=set(MORE_SETTINGS), exclude_none=True)


class ImageTo3DRequest(JobRequest, Keyed):
    """POST /api/v6/3d/image_to_3d."""

    MAX_BYTES: ClassVar[int] = MAX_BODY_BYTES

    image: ImageSource | list[ImageSource] | None = Field(
        None, description="URL, data URI or base64; a list for multi_image."
    )
    init_image: ImageSource | list[ImageSource] | None = Field(
        None, description="The same as image; newer versions of the API use this name."
    )
    multi_image: YesNo = Field(False, description="Whether image is a list of several images.")
    webhook: WebAddress = Field("", max_length=2000, description="URL to call when the job ends.")
    track_id: TrackId | None = Field(None, description="Returned in each response.")

    @model_validator(mode="after")
    def _one_or_several(self) -> ImageTo3DRequest:
        images = self.images
        if not images or not all(images):
            raise ValueError("image: the image is missing")
        if not self.multi_image:
            if len(images) > 1 or self.cameras or self.sides:
                raise ValueError("image: several images, cameras and sides need multi_image")
        elif self.cameras and self.sides:
            raise ValueError("sides: leave out either cameras or sides")
        elif len(images) != (wanted := len(self.cameras or self.sides or range(VIEWS))):
            raise ValueError(
                f"image: multi_image needs {wanted} images, got {len(images)}: send one for each of"
                " cameras or sides, or without these the six views of Zero123++ in their order"
            )
        return self

    @property
    def images(self) -> list[str]:
        """The images, from whichever field was used."""
        given = self.image or self.init_image or []
        return [given] if isinstance(given, str) else given

    def settings(self) -> JobRequest:
        """Return only the fields that a worker needs."""
        return JobRequest.model_validate(self.model_dump(include=set(JobRequest.model_fields)))


class Upload(Keyed):
    """POST /api/v6/base64_to_url."""

    MAX_BYTES: ClassVar[int] = MAX_BODY_BYTES

    base64_string: str = Field(min_length=8)


class Hunyuan(Body):
    """POST /generate and /send of Hunyuan3D-2's api_server."""

    MAX_BYTES: ClassVar[int] = MAX_BODY_BYTES

    image: ImageSource = Field("", description="Base64 or a data URI.")
    text: str | None = None
    texture: bool = False
    seed: int = Field(1234, ge=0, lt=2**32)
    octree_resolution: int = Field(256, ge=1, le=2048)
    face_count: int = Field(40_000, ge=4, le=10_000_000)
    type: Literal["glb", "obj", "stl", "ply"] = "glb"

    @model_validator(mode="after")
    def _image(self) -> Hunyuan:
        if not self.image:
            raise ValueError("image: the image is missing, and text prompts are not supported")
        return self

    def settings(self) -> JobRequest:
        """Convert the request to the settings of a job."""
        resolution = _SETTINGS["resolution"]
        return JobRequest(
            remove_bg=True,
            resolution=min(max(self.octree_resolution, resolution.low), resolution.high),
            seed=self.seed,
            output_format=self.type,
            texture=1024 if self.texture and self.type in ("glb", "obj") else 0,
            max_faces=self.face_count if self.texture else 0,
        )


class Answer(BaseModel):
    """A response in ModelsLab's format; fields that are None are omitted."""

    model_config = ConfigDict(extra="allow")

    status: Literal["success", "processing", "failed", "error"]
    id: int | None = None
    message: str | None = None
    tip: str | None = None
    output: list[str] | None = None
    proxy_links: list[str] | None = None
    future_links: list[str] | None = None
    fetch_result: str | None = None
    eta: float | None = None
    queue_position: int | None = None
    generation_time: float | None = Field(None, serialization_alias="generationTime")
    track_id: str | int | None = None
    meta: dict[str, Any] | None = None
    retry_after: int | None = None
