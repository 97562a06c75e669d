"""The parameters of a job.

Source: the vendor's public documentation of the v6 API, in its older and its newer form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput

OUTPUT_FORMATS = ("obj", "glb", "stl", "ply")
#: Lowest and highest value of each number.
BOUNDS: Mapping[str, tuple[float, float]] = {
    "foreground_ratio": (0.01, 1),
    "resolution": (1, 512),
    "chunk_size": (1, 12000),
    "seed": (0, 2**32 - 1),
    "ss_guidance_strength": (0, 100),
    "ss_sampling_steps": (1, 50),
    "slat_guidance_strength": (0, 10),
    "slat_sampling_steps": (1, 50),
    "mesh_simplify": (0.9, 0.98),
}


@dataclass(frozen=True)
class Request:
    """The parameters of a job, with the service's own names, defaults and bounds.

    Servers ignore unknown fields. The last five are from the vendor's newer documentation. A new
    field must have a default, so that earlier paid jobs are still found (see `jobs`).

    Attributes:
        remove_bg: whether to remove the background. If False, `foreground_ratio` has no effect.
        foreground_ratio: 0.01 to 1.
        resolution: 1 to 512.
        chunk_size: 1 to 12000.
        seed: random seed up to 2**32 - 1; 0 chooses a random one.
        render: whether to also make a video.
        temp: whether the service stores the results only temporarily.
        output_format: one of `OUTPUT_FORMATS`.
        model_id: the service's name for the model.
        ss_guidance_strength, ss_sampling_steps: guidance (0 to 100) and number of steps (1 to 50)
            for the sparse structure.
        slat_guidance_strength, slat_sampling_steps: guidance (0 to 10) and number of steps (1 to
            50) for the details.
        mesh_simplify: share of triangles to remove, 0.9 to 0.98.

    Raises:
        InvalidInput: if a value is out of bounds.
    """

    remove_bg: bool = False
    foreground_ratio: float = 0.85
    resolution: int = 256
    chunk_size: int = 8192
    seed: int = 0
    render: bool = False
    temp: bool = False
    output_format: str = "obj"
    model_id: str = "instantmesh"
    ss_guidance_strength: float = 7.5
    ss_sampling_steps: int = 12
    slat_guidance_strength: float = 3.0
    slat_sampling_steps: int = 12
    mesh_simplify: float = 0.9

    def __post_init__(self) -> None:
        for name, (low, high) in BOUNDS.items():
            if not low <= getattr(self, name) <= high:
                raise InvalidInput(
                    f"{name} must be between {low} and {high}, got {getattr(self, name)}."
                )
        if self.output_format not in OUTPUT_FORMATS:
            raise InvalidInput(
                f"output_format must be one of {', '.join(OUTPUT_FORMATS)}, got"
                f" '{self.output_format}'."
            )
        if not self.model_id.strip():
            raise InvalidInput("model_id must not be empty: the default is 'instantmesh'.")

    def body(self, image_url: str) -> dict[str, Any]:
        """Build the JSON to send, without the API key.

        The image URL appears under its name in the older and the newer API.
        """
        return vars(self) | {
            "temp": "yes" if self.temp else "no",
            "image": image_url,
            "init_image": image_url,
        }
