"""Access to ComfyUI's runtime: folders, devices, memory, progress and interruption.

No other file depends on these parts of ComfyUI.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.utils
import folder_paths
import torch
from comfy.cli_args import args
from server import PromptServer
from torch import Tensor, nn

from ..pipelines.devices import DTYPES, choose_dtype
from ..pipelines.errors import InvalidInput
from ..pipelines.images.background import AUTO_MODEL, find_model
from ..pipelines.images.reading import to_pillow
from ..pipelines.progress import Progress

if TYPE_CHECKING:
    from ..pipelines.modelslab.client import ModelsLab

log = logging.getLogger(__name__)

# Names of our folders, both below models/ and in extra_model_paths.yaml.
MODELS_FOLDER, BACKGROUND_FOLDER = ("image_to_3d", "rembg")
_PREVIEW_SIDE = 512
_MEASURED_S = 0.05  # how long the load of the cores is measured
_LONGEST_NAME = 200  # bytes; leaves room for counter, suffix and MTL names
_PAID_JOBS = "modelslab_jobs.sqlite3"
# Layers that ComfyUI can replace with equivalents that load their own weights.
_CASTABLE = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.GroupNorm, nn.LayerNorm)
_PACK = Path(__file__).parent.parent
_DEMO_IMAGES = {"image-to-3d-cup.png": "cup.png", "image-to-3d-demo.png": "demo.png"}

Model = TypeVar("Model")


def register_folders() -> None:
    """Register our weights folders with ComfyUI; those of extra_model_paths.yaml stay first."""
    for name in (MODELS_FOLDER, BACKGROUND_FOLDER):
        folder_paths.add_model_folder_path(name, str(Path(folder_paths.models_dir) / name))


def offer_demo_images() -> None:
    """Copy the templates' images into ComfyUI's input folder, so that the templates run."""
    for name, source in _DEMO_IMAGES.items():
        target = Path(folder_paths.get_input_directory()) / name
        try:
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(_PACK / "workflows" / source, target)
        except OSError as error:
            log.warning("a template's image could not be copied to %s: %s", target, error)


def models_dirs() -> list[Path]:
    """Return the folders that are searched for weights; downloads go into the first one."""
    return [Path(folder) for folder in folder_paths.get_folder_paths(MODELS_FOLDER)]


def background_dir(method: str) -> Path:
    """Return the folder of a background removal model, or the default folder if it is missing."""
    folders = [Path(folder) for folder in folder_paths.get_folder_paths(BACKGROUND_FOLDER)]
    model = AUTO_MODEL if method == "auto" else method
    return next((folder for folder in folders if find_model(model, folder) is not None), folders[0])


def working_device() -> torch.device:
    """Return the device that runs the models."""
    return comfy.model_management.get_torch_device()


def reserve(memory: int) -> torch.device:
    """Make ComfyUI free `memory` bytes on the working device, and return that device."""
    device = working_device()
    comfy.model_management.free_memory(memory, device)
    return device


def offload_device() -> torch.device:
    """Return the device that holds idle models."""
    return comfy.model_management.unet_offload_device()


def chosen_dtype(name: str) -> torch.dtype:
    """Return a widget's precision; "auto" depends on ComfyUI's options and the device."""
    if name != "auto":
        return DTYPES[name]
    device = working_device()
    dtype = comfy.model_management.unet_dtype(device=device)
    if device.type == "cpu" and dtype == torch.float32 and not (args.force_fp32 or args.fp32_unet):
        # ComfyUI does not check whether the CPU supports bfloat16.
        return choose_dtype("auto", device)
    return dtype if dtype in DTYPES.values() else torch.float16


def loading(dtype: str) -> dict[str, Any]:
    """Return the arguments of the library's loaders for a model that ComfyUI will manage."""
    return {
        "models_dirs": models_dirs(),
        "device": offload_device(),
        "dtype": chosen_dtype(dtype),
        "progress": node_progress(),
    }


@dataclass(frozen=True)
class Managed(Generic[Model]):
    """A model whose weights ComfyUI moves between host and device memory."""

    model: Model
    patcher: comfy.model_patcher.ModelPatcher

    def load(self, working_memory: int = 0) -> torch.device:
        """Load the model onto the device, in part if memory is short.

        Args:
            working_memory: bytes that the computation needs besides the weights.

        Returns:
            the device to work on.
        """
        comfy.model_management.load_models_gpu([self.patcher], memory_required=working_memory)
        _move_uncastable(self.patcher.model, self.patcher.load_device)
        return self.patcher.load_device


class ImageTo3DParts(nn.ModuleList):
    """A container of the modules that ComfyUI manages; ComfyUI's log shows its class name.

    ComfyUI sets attributes on each module it manages. diffusers models do not allow that, so this
    container wraps them.
    """


def manage(model: Model, *parts: nn.Module) -> Managed[Model]:
    """Register a model with ComfyUI's memory management; its parts start on the offload device."""
    together = ImageTo3DParts(parts)
    for module in together.modules():
        _make_castable(module)
    patcher = comfy.model_patcher.ModelPatcher(together, working_device(), offload_device())
    return Managed(model, patcher)


def _make_castable(module: nn.Module) -> None:
    """Let a layer load its weights when it runs, so that ComfyUI can load a model in part."""
    if type(module) in _CASTABLE:
        module.__class__ = getattr(comfy.ops.disable_weight_init, type(module).__name__)


def _move_uncastable(model: nn.Module, device: torch.device) -> None:
    """Move all buffers, and the parameters of layers that do not load their own weights."""
    for module in model.modules():
        if not hasattr(module, "comfy_cast_weights"):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(device)
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))


def modelslab_client(server: str) -> ModelsLab:
    """Return a client with the API key of a configured server.

    Raises:
        InvalidInput, AuthenticationFailed: as in `modelslab.servers.find_server`.
    """
    from ..pipelines.modelslab.client import ModelsLab
    from ..pipelines.modelslab.jobs import PaidJobs
    from ..pipelines.modelslab.servers import find_server

    folder = Path(folder_paths.get_user_directory())
    return ModelsLab(find_server(server, folder), jobs=PaidJobs(folder / _PAID_JOBS))


def modelslab_servers() -> list[str]:
    """Return the names of the configured servers."""
    from ..pipelines.modelslab.servers import server_names

    return server_names(Path(folder_paths.get_user_directory()))


@contextmanager
def free_cores() -> Iterator[None]:
    """Run with one thread for each core that no other process uses.

    OpenMP threads spin while they wait for each other. If another process takes the core of one
    thread, all others wait for it at each step: template 1 took 15 s instead of 1 s.
    """
    before = torch.get_num_threads()
    if working_device().type == "cpu":
        torch.set_num_threads(max(1, before - round(busy_cores())))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def busy_cores() -> float:
    """Measure how many cores are busy, during a short sleep of this thread."""
    try:
        import psutil  # a dependency of ComfyUI
    except ImportError:
        return 0.0
    return psutil.cpu_percent(_MEASURED_S) / 100 * (psutil.cpu_count() or 1)


def node_progress(part: int = 0, parts: int = 1) -> Progress:
    """Return a callback that updates the running node's progress bar and preview.

    It covers part number `part` of `parts` equal parts, and raises if the user has pressed Stop.
    """
    bar = comfy.utils.ProgressBar(parts)

    def report(done: int, total: int, preview: Tensor | None = None, *, stage: str = "") -> None:
        check_interruption()
        image = None if preview is None else ("JPEG", to_pillow(preview), _PREVIEW_SIDE)
        bar.update_absolute(part * total + done, parts * total, image)

    return report


def each(*batches: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Zip batches of equal length; add a progress callback for each item's share of the bar."""
    for i, items in enumerate(zip(*batches, strict=True)):
        yield *items, node_progress(i, len(batches[0]))


def check_interruption() -> None:
    """Raise ComfyUI's own error if the user has pressed Stop."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def show_on_node(node_id: str | None, text: str) -> None:
    """Log a sentence and show it on a node, by default on the running one."""
    log.info(text)
    PromptServer.instance.send_progress_text(text, node_id or PromptServer.instance.last_node_id)


def check_prefix(prefix: str) -> None:
    """Check a file name prefix, without writing anything.

    Raises:
        InvalidInput: if the prefix leads outside the output folder or is not a valid file name.
    """
    if not _is_inside(Path(folder_paths.get_output_directory()), prefix):
        raise InvalidInput(
            f"The file name '{_shown(prefix)}' leads outside ComfyUI's output folder: use one"
            " without '..' and drive names."
        )
    if "\0" in prefix or any(len(part.encode()) > _LONGEST_NAME for part in prefix.split("/")):
        raise InvalidInput(
            f"The file name '{_shown(prefix)}' is not a valid file name: use a shorter one of"
            " letters and numbers."
        )


def output_names(prefix: str, count: int) -> tuple[Path, list[str]]:
    """Return an output folder and file names, numbered as by ComfyUI's own save nodes.

    Returns:
        the folder, and the files' names without their endings.

    Raises:
        InvalidInput: as `check_prefix` does.
    """
    check_prefix(prefix)
    try:
        folder, name, counter, _, _ = folder_paths.get_save_image_path(
            prefix, folder_paths.get_output_directory()
        )
    except Exception as error:  # ComfyUI raises a bare Exception
        raise InvalidInput(
            f"The file name '{_shown(prefix)}' cannot be used: {error}. Use a shorter one below"
            " ComfyUI's output folder."
        ) from error
    return Path(folder), [f"{name}_{counter + i:05}_" for i in range(count)]


def below_output(path: Path) -> Path:
    """Return a path relative to the output folder, as Preview 3D requires."""
    return path.relative_to(folder_paths.get_output_directory())


def input_files(suffixes: Sequence[str]) -> list[str]:
    """List the files of the input folder with these suffixes, as paths relative to it."""
    folder = Path(folder_paths.get_input_directory())
    endings = tuple(f".{suffix}" for suffix in suffixes)
    return sorted(
        Path(parent, name).relative_to(folder).as_posix()
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(endings) and not name.startswith(".")
    )


def check_file_name(name: str) -> None:
    """Raise an error if a name leads outside ComfyUI's folders; the file need not exist yet.

    Raises:
        InvalidInput: if the name leads outside.
    """
    if not all(_is_inside(folder, name) for folder in _file_folders()):
        raise InvalidInput(
            f"The file name '{_shown(name)}' leads outside ComfyUI's folders: use one below the"
            " input or output folder."
        )


def file_below_comfyui(name: str) -> Path:
    """Return a file below the input folder, or else below the output folder.

    Raises:
        InvalidInput: if the file does not exist or the name leads outside these folders.
    """
    check_file_name(name)
    for folder in _file_folders():
        with suppress(OSError, ValueError):  # NUL characters, names of more than 255 bytes
            if (path := (folder / name).resolve()).is_file():
                return path
    raise InvalidInput(f"There is no file '{_shown(name)}' below ComfyUI's input or output folder.")


def _file_folders() -> tuple[Path, Path]:
    return Path(folder_paths.get_input_directory()), Path(folder_paths.get_output_directory())


def _is_inside(folder: Path, name: str) -> bool:
    """Return whether a name stays in a folder; names that no file can have count as inside."""
    try:
        return (folder / name).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):  # NUL characters, names of more than 255 bytes
        return True


def _shown(name: str) -> str:
    """Return a name shortened and escaped for use in a message."""
    return name.encode("unicode_escape").decode()[:100]


def file_metadata(prompt: Any, extra_pnginfo: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the graph as ComfyUI stores it in files; empty with --disable-metadata."""
    if args.disable_metadata:
        return {}
    named = ({} if prompt is None else {"prompt": prompt}) | dict(extra_pnginfo or {})
    return {name: json.dumps(value) for name, value in named.items()}
