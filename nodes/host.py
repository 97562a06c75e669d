"""ComfyUI's runtime: folders, devices, memory, progress, interruption. No other file knows it."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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

# Folders below models/, and their names in extra_model_paths.yaml.
MODELS_FOLDER, BACKGROUND_FOLDER = ("image_to_3d", "rembg")
_PREVIEW_SIDE = 512
_MEASURED_S = 0.05
_LONGEST_NAME = 200  # bytes: counter, suffix and MTL names are added
_PAID_JOBS = "modelslab_jobs.sqlite3"
# Layers for which ComfyUI has classes of the same shape that bring their own weights.
_CASTABLE = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.GroupNorm, nn.LayerNorm)
_PACK = Path(__file__).parent.parent
_DEMO_IMAGES = {"image-to-3d-cup.png": "cup.png", "image-to-3d-demo.png": "demo.png"}

Model = TypeVar("Model")


def register_folders() -> None:
    """Tell ComfyUI where weights live; folders that extra_model_paths.yaml names stay first."""
    for name in (MODELS_FOLDER, BACKGROUND_FOLDER):
        folder_paths.add_model_folder_path(name, str(Path(folder_paths.models_dir) / name))


def offer_demo_images() -> None:
    """Put the templates' images into ComfyUI's input folder, so that the templates run."""
    for name, source in _DEMO_IMAGES.items():
        target = Path(folder_paths.get_input_directory()) / name
        try:
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(_PACK / "workflows" / source, target)
        except OSError as error:
            log.warning("a template's image could not be copied to %s: %s", target, error)


def models_dirs() -> list[Path]:
    """Where weights are looked for; downloads go into the first."""
    return [Path(folder) for folder in folder_paths.get_folder_paths(MODELS_FOLDER)]


def background_dir(method: str) -> Path:
    """The folder that holds the model of a background removal, or the one where it belongs."""
    folders = [Path(folder) for folder in folder_paths.get_folder_paths(BACKGROUND_FOLDER)]
    model = AUTO_MODEL if method == "auto" else method
    return next((folder for folder in folders if find_model(model, folder) is not None), folders[0])


def working_device() -> torch.device:
    """Where work is done."""
    return comfy.model_management.get_torch_device()


def reserve(memory: int) -> torch.device:
    """The working device, after ComfyUI has freed so many bytes on it by moving models away."""
    device = working_device()
    comfy.model_management.free_memory(memory, device)
    return device


def offload_device() -> torch.device:
    """Where models wait."""
    return comfy.model_management.unet_offload_device()


def chosen_dtype(name: str) -> torch.dtype:
    """The precision of a widget; "auto" is what ComfyUI's options and the device ask for."""
    if name != "auto":
        return DTYPES[name]
    device = comfy.model_management.get_torch_device()
    dtype = comfy.model_management.unet_dtype(device=device)
    if device.type == "cpu" and dtype == torch.float32 and not (args.force_fp32 or args.fp32_unet):
        # ComfyUI does not ask whether a CPU computes in bfloat16.
        return choose_dtype("auto", device)
    return dtype if dtype in DTYPES.values() else torch.float16


@dataclass(frozen=True)
class Managed(Generic[Model]):
    """A model whose weights ComfyUI moves between memories as it decides."""

    model: Model
    patcher: comfy.model_patcher.ModelPatcher

    def load(self, working_memory: int = 0) -> torch.device:
        """Bring the model to the device, all of it or as much as ComfyUI has room for.

        Args:
            working_memory: bytes that the work itself will need.

        Returns:
            the device to work on.
        """
        comfy.model_management.load_models_gpu([self.patcher], memory_required=working_memory)
        _move_uncastable(self.patcher.model, self.patcher.load_device)
        return self.patcher.load_device


class ImageTo3DParts(nn.ModuleList):
    """What ComfyUI manages, under the name that its log shows.

    ComfyUI writes attributes into what it manages, and the models of diffusers refuse new ones.
    So they stand in this list, which takes them.
    """


def manage(model: Model, *parts: nn.Module) -> Managed[Model]:
    """Put a model, whose parts wait on the offload device, under ComfyUI's memory management."""
    together = ImageTo3DParts(parts)
    for module in together.modules():
        _make_castable(module)
    return Managed(
        model,
        comfy.model_patcher.ModelPatcher(
            together, load_device=working_device(), offload_device=offload_device()
        ),
    )


def _make_castable(module: nn.Module) -> None:
    """Let a layer fetch its weights when it runs, so that ComfyUI may load a model in part."""
    if type(module) in _CASTABLE:
        module.__class__ = getattr(comfy.ops.disable_weight_init, type(module).__name__)


def _move_uncastable(model: nn.Module, device: torch.device) -> None:
    """Move what no layer brings by itself: parameters of other modules, and buffers."""
    for module in model.modules():
        for parameter in (
            () if hasattr(module, "comfy_cast_weights") else module.parameters(recurse=False)
        ):
            parameter.data = parameter.data.to(device)
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))


def modelslab_client(server: str) -> ModelsLab:
    """A client of a server that this machine's user has named, with the key for it.

    Raises:
        InvalidInput, AuthenticationFailed: as in `modelslab.servers.find_server`.
    """
    from ..pipelines.modelslab.client import ModelsLab
    from ..pipelines.modelslab.jobs import PaidJobs
    from ..pipelines.modelslab.servers import find_server

    folder = Path(folder_paths.get_user_directory())
    return ModelsLab(find_server(server, folder), jobs=PaidJobs(folder / _PAID_JOBS))


def modelslab_servers() -> list[str]:
    """Names of the servers that this machine's user may choose from."""
    from ..pipelines.modelslab.servers import server_names

    return server_names(Path(folder_paths.get_user_directory()))


@contextmanager
def free_cores() -> Iterator[None]:
    """Run with as many threads as there are cores that no other process uses.

    OpenMP's threads spin while they wait for each other. With one busy process beside, a thread
    that has lost its core holds up all others at each step: template 1 took 15 s instead of 1.
    """
    before = torch.get_num_threads()
    if working_device().type == "cpu":
        torch.set_num_threads(max(1, before - round(busy_cores())))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def busy_cores() -> float:
    """Return how many cores are in use now, measured for a moment in which this thread sleeps."""
    try:
        import psutil  # which ComfyUI requires
    except ImportError:
        return 0.0
    return psutil.cpu_percent(_MEASURED_S) / 100 * (psutil.cpu_count() or 1)


def node_progress(part: int = 0, parts: int = 1) -> Progress:
    """The running node's bar, with previews, for one of several equal parts.

    What it returns raises where the user has pressed Stop.
    """
    bar = comfy.utils.ProgressBar(parts)

    def report(done: int, total: int, preview: Tensor | None = None, *, stage: str = "") -> None:
        check_interruption()
        image = None if preview is None else ("JPEG", to_pillow(preview), _PREVIEW_SIDE)
        bar.update_absolute(part * total + done, parts * total, image)

    return report


def check_interruption() -> None:
    """Raise ComfyUI's own error if the user has pressed Stop."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def show_on_node(node_id: str, text: str) -> None:
    """Log a sentence and show it on a node."""
    log.info(text)
    PromptServer.instance.send_progress_text(text, node_id)


def check_prefix(prefix: str) -> None:
    """Raise an error if files cannot be named so; nothing is written.

    Raises:
        InvalidInput: if the prefix leads outside the output folder, or no file can have the name.
    """
    output = Path(folder_paths.get_output_directory()).resolve()
    try:
        inside = (output / prefix).resolve().is_relative_to(output)
    except (OSError, ValueError):  # NUL characters
        inside = True
    if not inside:
        raise InvalidInput(
            f"The file name '{_shown(prefix)}' leads outside ComfyUI's output folder: use one"
            " without '..' and drive names."
        )
    if "\0" in prefix or any(len(part.encode()) > _LONGEST_NAME for part in prefix.split("/")):
        raise InvalidInput(
            f"The file name '{_shown(prefix)}' is none that a file can have: use a shorter one of"
            " letters and numbers."
        )


def output_names(prefix: str, count: int) -> tuple[Path, list[str]]:
    """Return where files go, named as core's savers name them.

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
    except Exception as error:  # core raises a bare Exception
        raise InvalidInput(
            f"The file name '{_shown(prefix)}' cannot be used: {error}. Use a shorter one below"
            " ComfyUI's output folder."
        ) from error
    return Path(folder), [f"{name}_{counter + i:05}_" for i in range(count)]


def below_output(path: Path) -> Path:
    """A path of `output_names`' folder, relative to the output folder: as Preview 3D wants it."""
    return path.relative_to(folder_paths.get_output_directory())


def input_files(suffixes: Sequence[str]) -> list[str]:
    """Return the files of the input folder with these endings, as paths below it."""
    folder = Path(folder_paths.get_input_directory())
    found = (
        Path(parent, name).relative_to(folder)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
    )
    wanted = {f".{suffix}" for suffix in suffixes}
    return sorted(
        path.as_posix()
        for path in found
        if path.suffix.lower() in wanted and not path.name.startswith(".")
    )


def check_file_name(name: str) -> None:
    """Raise an error if a name leads outside ComfyUI's folders; the file need not exist yet.

    Raises:
        InvalidInput: if it does.
    """
    for folder in _file_folders():
        try:
            inside = (folder / name).resolve().is_relative_to(folder.resolve())
        except (OSError, ValueError):  # NUL characters, names of more than 255 bytes
            return
        if not inside:
            raise InvalidInput(
                f"The file name '{_shown(name)}' leads outside ComfyUI's folders: use one below the"
                " input or output folder."
            )


def file_below_comfyui(name: str) -> Path:
    """Return a file below the input folder, or else below the output folder.

    Raises:
        InvalidInput: if there is none, or the name leads elsewhere.
    """
    check_file_name(name)
    for folder in _file_folders():
        try:
            if (path := (folder / name).resolve()).is_file():
                return path
        except (OSError, ValueError):  # NUL characters, names of more than 255 bytes
            break
    raise InvalidInput(f"There is no file '{_shown(name)}' below ComfyUI's input or output folder.")


def _file_folders() -> tuple[Path, Path]:
    return Path(folder_paths.get_input_directory()), Path(folder_paths.get_output_directory())


def _shown(name: str) -> str:
    """A name as it can stand in a sentence."""
    return name.encode("unicode_escape").decode()[:100]


def file_metadata(prompt: Any, extra_pnginfo: Mapping[str, Any] | None) -> dict[str, str]:
    """The graph as core writes it into files; empty with --disable-metadata."""
    if args.disable_metadata:
        return {}
    named = ({} if prompt is None else {"prompt": prompt}) | dict(extra_pnginfo or {})
    return {name: json.dumps(value) for name, value in named.items()}
