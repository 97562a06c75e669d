"""Build schedulers by name from a repository's scheduler config.

Source: Karras et al. (arXiv 2206.00364) for Euler ancestral; Lu et al., DPM-Solver++ (arXiv
2211.01095); Zhao et al., UniPC (arXiv 2302.04867).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidInput

SCHEDULERS = ("euler_ancestral", "dpmpp_2m", "unipc")


def make_scheduler(name: str, config: Mapping[str, Any]) -> Any:
    """Create a diffusers scheduler with trailing timesteps.

    Raises:
        InvalidInput: if the name is not in `SCHEDULERS`.
    """
    # diffusers takes seconds to import and is only needed here.
    from diffusers import (
        DPMSolverMultistepScheduler,
        EulerAncestralDiscreteScheduler,
        UniPCMultistepScheduler,
    )

    shared = {
        key: config[key]
        for key in (
            "num_train_timesteps",
            "beta_start",
            "beta_end",
            "beta_schedule",
            "prediction_type",
        )
        if key in config
    } | {"timestep_spacing": "trailing"}
    if name == "euler_ancestral":
        return EulerAncestralDiscreteScheduler(**shared)
    if name == "dpmpp_2m":
        return DPMSolverMultistepScheduler(**shared, algorithm_type="dpmsolver++", solver_order=2)
    if name == "unipc":
        return UniPCMultistepScheduler(**shared)
    raise InvalidInput(f"The scheduler must be one of {', '.join(SCHEDULERS)}, got '{name}'.")
