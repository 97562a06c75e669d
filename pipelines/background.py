"""Pictures to masks of the object: by the picture's own alpha, by a plain background, or by one of rembg's models."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .errors import EnvironmentProblem, InvalidInput
from .pictures import to_pillow

if TYPE_CHECKING:
    from rembg.sessions.base import BaseSession

log = logging.getLogger(__name__)

MODELS = (
    "u2net",
    "u2netp",
    "u2net_human_seg",
    "silueta",
    "isnet-general-use",
    "isnet-anime",
    "birefnet-general",
    "birefnet-general-lite",
    "birefnet-portrait",
)
METHODS = ("auto", "alpha", "plain", "none", *MODELS)
AUTO_MODEL = "u2net"

_LAB_TOLERANCE = 12.0  # CIE76; 2.3 is just noticeable, compressed photographs of white paper vary by some 5
_SOFT_EDGE = 2  # pixels over which the edge of a plain background may fade
_PLAIN_SHARE = 0.97  # of the border within the tolerance, for "auto" to call a background plain


def remove_background(images: Tensor, method: str = "auto", *, models_dir: Path | None = None, device: str = "cpu") -> Tensor:
    """Masks of what stands in front.

    Args:
        images: (B, 3, H, W), or (B, 4, H, W) with straight alpha, in [0, 1].
        method: "alpha" uses the picture's own alpha; "plain" takes away what is connected to the border and of its colour; "none" keeps
            everything; a name of `MODELS` runs that model of rembg. "auto" is "alpha" where the alpha says something, "plain" where the
            border has one colour, and else the model u2net.
        models_dir: folder of rembg's models, `<name>.onnx`; rembg's own folder if None. A missing model is downloaded there.
        device: "cuda", "mps" or "cpu", for the execution provider.

    Returns:
        (B, 1, H, W) float32 in [0, 1], 1 is the object.

    Raises:
        InvalidInput: if the method is unknown, the shape is another, or "alpha" is asked for without an alpha.
        EnvironmentProblem: if a model is missing and cannot be downloaded, or cannot be run.

    Source: rembg's models (U^2-Net arXiv 2005.09007, IS-Net arXiv 2203.03041, BiRefNet arXiv 2401.03407).
    """
    if method not in METHODS:
        raise InvalidInput(f"The background removal must be one of {', '.join(METHODS)}, got '{method}'.")
    if images.ndim != 4 or images.shape[1] not in (3, 4) or 0 in images.shape:
        raise InvalidInput(f"Pictures must be (B, 3 or 4, H, W), got {tuple(images.shape)}.")
    if not bool(torch.isfinite(images).all()):
        raise InvalidInput("The picture holds values that are not finite numbers (NaN or infinity).")
    return torch.stack([_mask(image.float().cpu().clamp(0, 1), method, models_dir, device) for image in images])


def _mask(image: Tensor, method: str, models_dir: Path | None, device: str) -> Tensor:
    if method == "auto":
        method = _choose_method(image)
        log.info("background removal: %s", method)
    if method == "none":
        return torch.ones_like(image[:1])
    if method == "alpha":
        if image.shape[0] == 3:
            raise InvalidInput("The picture has no alpha channel: choose another background removal than 'alpha'.")
        return image[3:].clone()
    rgb = image[:3] if image.shape[0] == 3 else image[:3] * image[3:] + 1 - image[3:]
    if method == "plain":
        return _plain_mask(rgb)
    session = _session(method, models_dir, device)
    predicted = session.predict(to_pillow(rgb))[0]
    return torch.from_numpy(np.array(predicted)).float()[None] / 255


def _choose_method(image: Tensor) -> str:
    if image.shape[0] == 4 and float(image[3].amin()) < 0.98:
        return "alpha"
    distance, _ = _distance_from_border_color(image[:3])
    border = np.concatenate([distance[0], distance[-1], distance[:, 0], distance[:, -1]])
    return "plain" if (border < _LAB_TOLERANCE).mean() >= _PLAIN_SHARE else AUTO_MODEL


def _distance_from_border_color(rgb: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) distance in Lab from the border's median colour, and that colour (3,)."""
    from skimage.color import rgb2lab  # slow to import, like all that is imported inside a function here

    lab = rgb2lab(rgb.permute(1, 2, 0).numpy())
    border = np.concatenate([lab[0], lab[-1], lab[:, 0], lab[:, -1]])
    color = np.median(border, axis=0)
    return np.linalg.norm(lab - color, axis=-1), color


def _plain_mask(rgb: Tensor) -> Tensor:
    from scipy import ndimage

    distance, _ = _distance_from_border_color(rgb)
    regions, _ = ndimage.label(distance < _LAB_TOLERANCE)
    at_border = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    background = np.isin(regions, at_border[at_border > 0])
    # Beside the background, mixed pixels fade by how much of its colour is in them.
    edge = ndimage.binary_dilation(background, iterations=_SOFT_EDGE) & ~background
    opacity = np.where(background, 0.0, 1.0)
    opacity[edge] = np.clip(distance[edge] / (2 * _LAB_TOLERANCE), 0, 1)
    return torch.from_numpy(opacity).float()[None]


@lru_cache(maxsize=4)
def _session(model: str, models_dir: Path | None, device: str) -> BaseSession:
    """A rembg session, kept for the next picture."""
    try:
        from rembg import new_session
    except (ImportError, SystemExit) as error:  # rembg exits where onnxruntime is missing
        raise EnvironmentProblem("Background models need the package rembg with onnxruntime: pip install 'rembg[cpu]'.") from error
    place = models_dir or Path(os.environ.get("U2NET_HOME", "~/.u2net")).expanduser()
    try:
        with _rembg_home(models_dir):
            return new_session(model, providers=_providers(device))
    except Exception as error:  # pooch, requests and onnxruntime each have their own
        file = place / f"{model}.onnx"
        if file.exists():
            raise EnvironmentProblem(f"The background model {file} cannot be loaded: delete it, and it is downloaded again.") from error
        raise EnvironmentProblem(f"The background model {model}.onnx is missing and could not be downloaded: put it at {file}.") from error


@contextmanager
def _rembg_home(models_dir: Path | None) -> Iterator[None]:
    """rembg reads its folder from the environment alone."""
    if models_dir is None:
        yield
        return
    models_dir.mkdir(parents=True, exist_ok=True)
    before = os.environ.get("U2NET_HOME")
    os.environ["U2NET_HOME"] = str(models_dir)
    try:
        yield
    finally:
        if before is None:
            del os.environ["U2NET_HOME"]
        else:
            os.environ["U2NET_HOME"] = before


def _providers(device: str) -> list[str]:
    import onnxruntime

    wanted = {"cuda": ["CUDAExecutionProvider", "ROCMExecutionProvider"], "mps": ["CoreMLExecutionProvider"]}.get(device, [])
    available = onnxruntime.get_available_providers()
    return [p for p in wanted if p in available] + ["CPUExecutionProvider"]
