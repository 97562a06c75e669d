"""Find the images among the arguments, and choose the names of their results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InvalidInput
from ..files import expand_home, is_hidden, matching, unique_names
from ..images.reading import SUFFIXES, is_input_image
from ..settings import MESH_FORMATS


def find_images(inputs: Sequence[str]) -> list[Path]:
    """Find the images in files, folders and glob patterns.

    The images of a folder are sorted by name. Subfolders, hidden files and files that this library
    wrote are skipped.

    Args:
        inputs: paths, which may begin with `~`. A path that does not exist is treated as a `glob`
            pattern.

    Raises:
        InvalidInput: if a path does not exist, or a folder or pattern has no image.
    """
    return [image for text in inputs for image in _images_of(text)]


def _images_of(text: str) -> list[Path]:
    path = expand_home(Path(text))
    try:
        if path.is_dir():
            inside = (p for p in sorted(path.iterdir()) if not is_hidden(Path(p.name)))
            images = [p for p in inside if is_input_image(p)]
            if not images:
                raise InvalidInput(f"The folder {text} holds no image ({', '.join(SUFFIXES)}).")
            return images
        if path.exists():
            return [path]
    except OSError as error:  # for example if the name is too long
        raise InvalidInput(f"{text} cannot be read: {error.strerror or error}.") from error
    images = [p for p in matching(path) if is_input_image(p)]
    if not images:
        raise InvalidInput(f"There is no file or folder {text}, and no image matches that pattern.")
    return images


def output_names(images: Sequence[Path], folder: Path, *, overwrite: bool = False) -> list[str]:
    """Return a name for each image's result files: the image's name without its suffix.

    A number is appended if two names would collide on some file system, or if the folder already
    has files of that name. Long names are shortened.

    Args:
        images: the input images, which results never overwrite.
        folder: folder of the results.
        overwrite: whether to reuse the names of earlier results.
    """
    inputs = {image.resolve() for image in images}

    def is_taken(name: str) -> bool:
        return any(
            not overwrite or place.resolve() in inputs
            for place in _results(folder, name)
            if place.exists()
        )

    return unique_names([image.stem for image in images], is_taken)


def _results(folder: Path, name: str) -> Iterator[Path]:
    """Yield all files and folders that a run may write for a name."""
    endings = [f".{suffix}" for suffix in (*MESH_FORMATS, "mtl")]
    endings += ["", "-preview.png", "-framed.png", "-orbit", "-orbit.webp"]
    endings += [f"-view-{i}.png" for i in range(6)]
    return (folder / f"{name}{ending}" for ending in endings)
