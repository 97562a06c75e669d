"""Compute a mask of the object in an image.

The mask comes from the image's alpha, its plain background, or a model of rembg.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import EnvironmentProblem, InvalidInput
from ..progress import Progress, silent
from ..reachability import is_reachable
from ..settings import BackgroundMethod, BackgroundModel
from .checks import check_images
from .colors import to_lab
from .reading import to_pillow

if TYPE_CHECKING:
    from rembg.sessions.base import BaseSession

log = logging.getLogger(__name__)

MODELS: tuple[str, ...] = get_args(BackgroundModel)
METHODS: tuple[str, ...] = get_args(BackgroundMethod)
AUTO_MODEL = "u2net"
_RELEASES = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"
#: File names of models whose name differs in the release.
_OTHER_FILES = {
    "birefnet-general": "BiRefNet-general-epoch_244",
    "birefnet-general-lite": "BiRefNet-general-bb_swin_v1_tiny-epoch_232",
    "birefnet-portrait": "BiRefNet-portrait-epoch_150",
}
DEFAULT_THRESHOLD = 0.05

_LAB_TOLERANCE = 12.0  # CIE76; 2.3 is just noticeable, photographs of white paper vary by about 5
_SOFT_EDGE_PX = 2  # width of the soft edge next to a plain background
_PLAIN_SHARE = 0.97  # share of the border that must have one colour to count as plain
# The foreground is a rectangle if it fills this share of its box. A rectangle with corners rounded
# by a fifth of its side still fills 0.966.
_SHEET_FILL = 0.95
# A rectangle counts as the whole image, not as an object, if the border around it is at most this
# share of the image's side, or two pixels.
_SHEET_MARGIN = 0.02
_CPU = ["CPUExecutionProvider"]
_MAX_BORDERS = 4  # number of nested thin borders to ignore


def remove_background(
    images: Tensor,
    method: str = "auto",
    *,
    models_dir: Path | None = None,
    device: str = "cpu",
    threshold: float = DEFAULT_THRESHOLD,
    progress: Progress = silent,
) -> Tensor:
    """Find the object in each image.

    Args:
        images: (B, 3, H, W), or (B, 4, H, W) with straight alpha, in [0, 1].
        method: "none" keeps everything. "alpha" uses the image's own alpha. "plain" removes
            regions that touch the border and have its colour. A name in `MODELS` runs that rembg
            model. "auto" chooses "alpha" if the alpha outlines an object, "plain" if the border has
            one colour, and otherwise the model u2net. It ignores thin borders, and an alpha that
            covers the whole image.
        models_dir: folder of rembg's models (`<name>.onnx`), by default rembg's own folder. Missing
            models are downloaded to it.
        device: "cuda", "mps" or "cpu"; selects the execution provider of ONNX Runtime.
        threshold: mask values below this become 0, which removes faint remains.
        progress: called after each image.

    Returns:
        (B, 1, H, W) float32 in [0, 1], 1 on the object.

    Raises:
        InvalidInput: if the images, the method or the threshold are invalid, or the method is
            "alpha" and the images have no alpha.
        EnvironmentProblem: if a model could not be downloaded or does not run.

    Source: rembg's models (U^2-Net arXiv 2005.09007, IS-Net arXiv 2203.03041, BiRefNet arXiv
    2401.03407).
    """
    if method not in METHODS:
        raise InvalidInput(
            f"background removal must be one of {', '.join(METHODS)}, got '{method}'."
        )
    check_images(images, 3, 4)
    if not 0 <= threshold <= 1:
        raise InvalidInput(f"alpha threshold must be between 0 and 1, got {threshold}.")
    masks = []
    for i, image in enumerate(images):
        masks.append(_mask(image.float().cpu().clamp(0, 1), method, models_dir, device))
        progress(i + 1, len(images))
    found = torch.stack(masks)
    return found * (found >= threshold)


def forget_models() -> None:
    """Free the memory of the cached model."""
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
    if method == "plain":
        return _plain_mask(_distance_from_border_color(rgb))
    return _model_mask(rgb, method, models_dir, device)


def _auto_mask(image: Tensor, models_dir: Path | None, device: str) -> Tensor:
    if image.shape[0] == 4 and _outlines_an_object(image[3]):
        log.info("background removal: alpha")
        return image[3:].clone()
    return _mask_within_borders(_on_white(image), _MAX_BORDERS, models_dir, device)


def _mask_within_borders(rgb: Tensor, borders: int, models_dir: Path | None, device: str) -> Tensor:
    """Find the object in an image (3, H, W), and ignore up to `borders` nested thin borders."""
    distance = _distance_from_border_color(rgb)
    if not borders or not _is_plain(distance):
        log.info("background removal: %s", AUTO_MODEL)
        return _model_mask(rgb, AUTO_MODEL, models_dir, device)
    mask = _plain_mask(distance)
    box = _sheet_box(mask[0])
    if box is None:
        log.info("background removal: plain")
        return mask
    top, left, height, width = box
    inner = rgb[:, top : top + height, left : left + width]
    found = _mask_within_borders(inner, borders - 1, models_dir, device)
    return F.pad(found, (left, rgb.shape[2] - left - width, top, rgb.shape[1] - top - height))


def _on_white(image: Tensor) -> Tensor:
    """Composite an image onto white, giving (3, H, W).

    An alpha that is 0 everywhere, as in some 32-bit BMPs and TGAs, is ignored.
    """
    if image.shape[0] == 3 or not bool(image[3].any()):
        return image[:3]
    return image[:3] * image[3:] + 1 - image[3:]


def _outlines_an_object(alpha: Tensor) -> bool:
    """Return whether an alpha (H, W) has an opaque region that is not the whole image."""
    return bool((alpha > 0.5).any()) and _sheet_box(alpha) is None


def _sheet_box(mask: Tensor) -> tuple[int, int, int, int] | None:
    """Return the box of the foreground if it is a rectangle that covers nearly the whole image.

    Rounded corners and a thin border are allowed.

    Returns:
        Top, left, height and width in pixels, or None for any other foreground.
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
    filled = float(solid.sum()) >= _SHEET_FILL * height * width
    return (top, left, height, width) if filled else None


def _is_plain(distance: np.ndarray) -> bool:
    """Return whether the border of an image has one colour; see `_distance_from_border_color`."""
    return bool((_border(distance) < _LAB_TOLERANCE).mean() >= _PLAIN_SHARE)


def _model_mask(rgb: Tensor, model: str, models_dir: Path | None, device: str) -> Tensor:
    predicted = _session(model, models_dir, device).predict(to_pillow(rgb[None]))[0]
    return torch.from_numpy(np.array(predicted)).float()[None] / 255


def _distance_from_border_color(rgb: Tensor) -> np.ndarray:
    """Return (H, W): each pixel's distance in Lab from the median colour of the border."""
    lab = to_lab(rgb).permute(1, 2, 0).numpy()
    distance: np.ndarray = np.linalg.norm(lab - np.median(_border(lab), axis=0), axis=-1)
    return distance


def _border(pixels: np.ndarray) -> np.ndarray:
    """Return the outermost pixels of an image (H, W) or (H, W, C)."""
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _plain_mask(distance: np.ndarray) -> Tensor:
    """Return (1, H, W): 0 where the border's colour reaches inwards, 1 on the object."""
    from scipy import ndimage  # slow to import

    regions, count = ndimage.label(distance < _LAB_TOLERANCE)
    at_border = np.bincount(_border(regions), minlength=count + 1) > 0
    at_border[0] = False
    background = at_border[regions]
    # Pixels next to the background fade according to how close they are to its colour.
    edge = ndimage.binary_dilation(background, iterations=_SOFT_EDGE_PX) & ~background
    opacity = np.where(background, 0.0, 1.0)
    opacity[edge] = np.clip(distance[edge] / (2 * _LAB_TOLERANCE), 0, 1)
    return torch.from_numpy(opacity).float()[None]


@lru_cache(maxsize=1)
def _session(model: str, models_dir: Path | None, device: str) -> BaseSession:
    """Create a rembg session, and cache it until `forget_models`."""
    folders = _model_folders(models_dir)
    new_session = _import_rembg()
    if not any(find_model(model, folder) for folder in folders) and not is_reachable(_RELEASES):
        raise _missing_model(model, folders[0])
    providers = _providers(device)
    try:
        with _rembg_home(models_dir):
            try:
                return new_session(model, providers=providers)
            except Exception:
                if providers == _CPU:
                    raise
                session = new_session(model, providers=_CPU)
                log.warning("%s does not run on %s; using the CPU", model, device)
                return session
    except Exception as error:  # pooch, requests and onnxruntime each raise their own types
        file = next(filter(None, (find_model(model, folder) for folder in folders)), None)
        if file is not None:
            raise EnvironmentProblem(
                f"could not load the background model {file}: delete it, and it will be downloaded"
                " again."
            ) from error
        raise _missing_model(model, folders[0]) from error


def _missing_model(model: str, folder: Path) -> EnvironmentProblem:
    file = _OTHER_FILES.get(model, model)
    return EnvironmentProblem(
        f"The background model {model}.onnx is missing and could not be downloaded: put it at"
        f" {folder / model}.onnx (from {_RELEASES}/{file}.onnx). A plain background (plain), an"
        " alpha channel or a mask of your own needs no model."
    )


def _import_rembg() -> Callable[..., BaseSession]:
    """Import rembg.

    On import, numba compiles rembg's matting, which is unused here. That fails without a writable
    folder; compilation is then turned off.
    """
    # onnxruntime 1.32 and newer report to Microsoft unless told not to before its import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        try:
            from rembg import new_session
        except RuntimeError as error:
            if "cannot cache" not in str(error):  # numba found no writable folder
                raise
            config = importlib.import_module("numba").config
            config.DISABLE_JIT = True
            try:
                from rembg import new_session
            finally:
                config.DISABLE_JIT = False
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            f"Background models need the package {error.name}: pip install 'rembg[cpu]'."
        ) from error
    # rembg exits if onnxruntime is missing; numba refuses some versions of NumPy.
    except (Exception, SystemExit) as error:
        raise EnvironmentProblem(
            f"could not import the package rembg ({error}): repair it, or choose another"
            " background removal."
        ) from error
    return new_session


def _model_folders(models_dir: Path | None) -> list[Path]:
    """Return the folders in which rembg looks for models.

    They are the caller's folder or, by default, those named in the environment and rembg's own.

    Raises:
        EnvironmentProblem: if there is no folder, because the user has no home directory.
    """
    if models_dir is not None:
        return [models_dir]
    named = [Path(os.environ[name]) for name in ("U2NET_HOME", "REMBG_HOME") if name in os.environ]
    try:
        return [*named, Path("~/.rembg").expanduser(), Path("~/.u2net").expanduser()]
    except RuntimeError as error:
        if named:
            return named
        raise EnvironmentProblem(
            "Background models have no folder, because this user has no home directory: set"
            " U2NET_HOME, or choose a folder of models."
        ) from error


def find_model(model: str, folder: Path) -> Path | None:
    """Find the file of a background model in a folder, or return None.

    Like rembg, prefer the model's subfolder to the folder itself.
    """
    places = (folder / "models" / model / f"{model}.onnx", folder / f"{model}.onnx")
    return next((place for place in places if place.exists()), None)


@contextmanager
def _rembg_home(models_dir: Path | None) -> Iterator[None]:
    """Set rembg's model folder temporarily; rembg reads it only from the environment."""
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
