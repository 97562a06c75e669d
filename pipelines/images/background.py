"""Images to masks of the object, by alpha, by a plain background, or by rembg's models."""

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
from torch.nn import functional as F

from ..errors import EnvironmentProblem, InvalidInput
from .reading import to_pillow

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
DEFAULT_THRESHOLD = 0.05

_LAB_TOLERANCE = (
    12.0  # CIE76; 2.3 is just noticeable, compressed photographs of white paper vary by some 5
)
_SOFT_EDGE = 2  # pixels over which the edge of a plain background may fade
_PLAIN_SHARE = 0.97  # of the border within the tolerance, for "auto" to call a background plain
# What stands in front is a rectangle if it fills so much of its box. Rounded corners of a fifth of
# the side leave 0.966.
_SHEET_FILL = 0.95
# A rectangle is the whole sheet, and no object on it, if it leaves free at most so much of a side,
# or two pixels.
_SHEET_MARGIN = 0.02
_CPU = ["CPUExecutionProvider"]
_MOST_FRAMES = 4  # thin frames, one in another, that are looked through


def remove_background(
    images: Tensor,
    method: str = "auto",
    *,
    models_dir: Path | None = None,
    device: str = "cpu",
    threshold: float = DEFAULT_THRESHOLD,
) -> Tensor:
    """Masks of what stands in front.

    Args:
        images: (B, 3, H, W), or (B, 4, H, W) with straight alpha, in [0, 1].
        method: "none" keeps everything. "alpha" uses the image's own alpha. "plain" takes away
            what has the border's colour and touches the border. A name of `MODELS` runs that model
            of rembg. "auto" chooses: "alpha" where the alpha describes an object, "plain" where the
            border has one colour, else the model u2net. An alpha that covers the whole sheet
            describes none. Thin frames are looked through.
        models_dir: folder of rembg's models, `<name>.onnx`; rembg's own folder if None. A missing
            model is downloaded there.
        device: "cuda", "mps" or "cpu", for the execution provider.
        threshold: mask values below this become 0: takes away faint remains.

    Returns:
        (B, 1, H, W) float32 in [0, 1], 1 is the object.

    Raises:
        InvalidInput: if the method is unknown, the shape is another, the threshold is outside [0,
            1], or "alpha" is asked for without one.
        EnvironmentProblem: if a model is missing and cannot be downloaded, or cannot be run.

    Source: rembg's models (U^2-Net arXiv 2005.09007, IS-Net arXiv 2203.03041, BiRefNet arXiv
    2401.03407).
    """
    if method not in METHODS:
        raise InvalidInput(
            f"The background removal must be one of {', '.join(METHODS)}, got '{method}'."
        )
    if images.ndim != 4 or images.shape[1] not in (3, 4) or 0 in images.shape:
        raise InvalidInput(f"Images must be (B, 3 or 4, H, W), got {tuple(images.shape)}.")
    if not bool(torch.isfinite(images).all()):
        raise InvalidInput("The image holds values that are not finite numbers (NaN or infinity).")
    if not 0 <= threshold <= 1:
        raise InvalidInput(f"The alpha threshold must lie between 0 and 1, got {threshold}.")
    masks = torch.stack(
        [_mask(image.float().cpu().clamp(0, 1), method, models_dir, device) for image in images]
    )
    return masks * (masks >= threshold)


def forget_models() -> None:
    """Let go of the model that was kept for the next image."""
    _session.cache_clear()


def _mask(image: Tensor, method: str, models_dir: Path | None, device: str) -> Tensor:
    if method == "none":
        return torch.ones_like(image[:1])
    if method == "alpha":
        if image.shape[0] == 3:
            raise InvalidInput(
                "The image has no alpha channel: choose another background removal than 'alpha'."
            )
        return image[3:].clone()
    if method == "auto":
        return _auto_mask(image, models_dir, device)
    rgb = _on_white(image)
    return _plain_mask(rgb) if method == "plain" else _model_mask(rgb, method, models_dir, device)


def _auto_mask(image: Tensor, models_dir: Path | None, device: str) -> Tensor:
    if image.shape[0] == 4 and _describes_an_object(image[3]):
        log.info("background removal: alpha")
        return image[3:].clone()
    rgb = _on_white(image)
    top, left = 0, 0
    height, width = rgb.shape[1:]
    for _ in range(_MOST_FRAMES):
        inner = rgb[:, top : top + height, left : left + width]
        if not _is_plain(inner):
            break
        mask = _plain_mask(inner)
        box = _sheet_box(mask[0])
        if box is None:
            log.info("background removal: plain")
            return F.pad(
                mask, (left, rgb.shape[2] - left - width, top, rgb.shape[1] - top - height)
            )
        top, left, height, width = top + box[0], left + box[1], box[2], box[3]
    log.info("background removal: %s", AUTO_MODEL)
    inner = rgb[:, top : top + height, left : left + width]
    mask = _model_mask(inner, AUTO_MODEL, models_dir, device)
    return F.pad(mask, (left, rgb.shape[2] - left - width, top, rgb.shape[1] - top - height))


def _on_white(image: Tensor) -> Tensor:
    """(3, H, W) the image on white.

    Where the alpha is 0 everywhere, as in some 32-bit BMPs and TGAs, the colours are meant all the
    same.
    """
    if image.shape[0] == 3 or not bool(image[3].any()):
        return image[:3]
    return image[:3] * image[3:] + 1 - image[3:]


def _describes_an_object(alpha: Tensor) -> bool:
    """Whether an alpha (H, W) has something solid in it that is not the whole sheet."""
    return bool((alpha > 0.5).any()) and _sheet_box(alpha) is None


def _sheet_box(mask: Tensor) -> tuple[int, int, int, int] | None:
    """Top, left, height and width of what stands in front if it is the whole sheet, else None.

    Rounded corners and a thin frame do not count.
    """
    solid = mask > 0.5
    rows, columns = solid.any(dim=1).nonzero()[:, 0], solid.any(dim=0).nonzero()[:, 0]
    if not len(rows):
        return None
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
    for side, start, length in ((mask.shape[0], top, height), (mask.shape[1], left, width)):
        allowed = max(2, round(_SHEET_MARGIN * side))
        if start > allowed or side - start - length > allowed:
            return None
    return (
        (top, left, height, width) if float(solid.sum()) >= _SHEET_FILL * height * width else None
    )


def _is_plain(rgb: Tensor) -> bool:
    """Whether the border of an image (3, H, W) has one colour."""
    distance, _ = _distance_from_border_color(rgb)
    border = np.concatenate([distance[0], distance[-1], distance[:, 0], distance[:, -1]])
    return bool((border < _LAB_TOLERANCE).mean() >= _PLAIN_SHARE)


def _model_mask(rgb: Tensor, model: str, models_dir: Path | None, device: str) -> Tensor:
    predicted = _session(model, models_dir, device).predict(to_pillow(rgb[None]))[0]
    return torch.from_numpy(np.array(predicted)).float()[None] / 255


def _distance_from_border_color(rgb: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) distance in Lab from the border's median colour, and that colour (3,)."""
    # Slow to import, like all that is imported inside a function here.
    from skimage.color import rgb2lab

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


@lru_cache(maxsize=1)
def _session(model: str, models_dir: Path | None, device: str) -> BaseSession:
    """A rembg session, kept for the next image until `forget_models`."""
    try:
        from rembg import new_session
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            f"Background models need the package {error.name}: pip install 'rembg[cpu]'."
        ) from error
    except (
        Exception,
        SystemExit,
    ) as error:  # rembg exits where onnxruntime is missing; numba refuses some versions of NumPy
        raise EnvironmentProblem(
            f"The package rembg cannot be imported ({error}): mend that, or choose another"
            " background removal."
        ) from error
    providers = _providers(device)
    try:
        with _rembg_home(models_dir):
            try:
                return new_session(model, providers=providers)
            except Exception:
                if providers == _CPU:
                    raise
                session = new_session(model, providers=_CPU)
                log.warning("%s does not run on %s: it runs on the CPU.", model, device)
                return session
    except Exception as error:  # pooch, requests and onnxruntime each have their own
        homes = _homes(models_dir)
        file = next(
            (found for home in homes if (found := find_model(model, home)) is not None), None
        )
        if file is not None:
            raise EnvironmentProblem(
                f"The background model {file} cannot be loaded: delete it, and it is downloaded"
                " again."
            ) from error
        place = homes[0] / f"{model}.onnx"
        raise EnvironmentProblem(
            f"The background model {model}.onnx is missing and could not be downloaded: put it at"
            f" {place}."
        ) from error


def _homes(models_dir: Path | None) -> list[Path]:
    """Where rembg looks: the caller's folder, or the environment's, or its own, newer and older."""
    if models_dir is not None:
        return [models_dir]
    named = [
        os.environ[variable] for variable in ("U2NET_HOME", "REMBG_HOME") if variable in os.environ
    ]
    return [Path(home).expanduser() for home in (*named, "~/.rembg", "~/.u2net")]


def find_model(model: str, folder: Path) -> Path | None:
    """The file of a background model in a folder.

    rembg takes the one in a folder of its own before the one in the folder itself.
    """
    places = (folder / "models" / model / f"{model}.onnx", folder / f"{model}.onnx")
    return next((place for place in places if place.exists()), None)


@contextmanager
def _rembg_home(models_dir: Path | None) -> Iterator[None]:
    """Rembg reads its folder from the environment alone."""
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

    wanted = {
        "cuda": ["CUDAExecutionProvider", "ROCMExecutionProvider"],
        "mps": ["CoreMLExecutionProvider"],
    }.get(device, [])
    available = onnxruntime.get_available_providers()
    return [p for p in wanted if p in available] + _CPU
