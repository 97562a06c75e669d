"""The parameters of a job.

Source: the vendor's public documentation of the v6 API, in its older and its newer form.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field

from ..declarations import BaseSettings

OutputFormat = Literal["obj", "glb", "stl", "ply"]
#: The parameters of the vendor's newer models.
NEWER = (
    "ss_guidance_strength",
    "ss_sampling_steps",
    "slat_guidance_strength",
    "slat_sampling_steps",
    "mesh_simplify",
)
OUTPUT_FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)


class Request(BaseSettings):
    """The parameters of a job, with the service's own names, defaults and bounds.

    Servers ignore unknown fields. Those in `NEWER` are from the vendor's newer documentation. A new
    field must have a default, so that earlier paid jobs are still found (see `jobs`).

    Raises:
        InvalidInput: if a value is out of bounds.
    """

    remove_bg: bool = Field(False, description="let the server remove the background")
    foreground_ratio: float = Field(0.85, ge=0.01, le=1, description="needs remove_bg")
    resolution: int = Field(256, ge=1, le=512, description="cells along an edge of the grid")
    chunk_size: int = Field(
        8192, ge=1, le=12000, description="points that the server evaluates at once"
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**32 - 1,
        description="the same seed, image and settings are not paid for again. 0 lets the server"
        " draw one. Further images use the next seeds",
    )
    render: bool = Field(False, description="also make a video")
    temp: bool = Field(False, description="keep the results on the server for a short time only")
    output_format: OutputFormat = Field("obj", description="format of the file")
    model_id: str = Field(
        "instantmesh", pattern=r"\S", description="name of the model on the server"
    )
    ss_guidance_strength: float = Field(
        7.5,
        ge=0,
        le=100,
        description="for newer models: how closely the structure follows the image",
    )
    ss_sampling_steps: int = Field(
        12, ge=1, le=50, description="for newer models: sampling steps of the structure"
    )
    slat_guidance_strength: float = Field(
        3.0, ge=0, le=10, description="for newer models: how closely the details follow the image"
    )
    slat_sampling_steps: int = Field(
        12, ge=1, le=50, description="for newer models: sampling steps of the details"
    )
    mesh_simplify: float = Field(
        0.9, ge=0.9, le=0.98, description="for newer models: the share of triangles to remove"
    )

    def body(self, image_url: str) -> dict[str, Any]:
        """Build the JSON to send, without the API key.

        The image's URL is sent under two names: those of the older and of the newer API.
        """
        return self.flat() | {
            "temp": "yes" if self.temp else "no",
            "image": image_url,
            "init_image": image_url,
        }
