"""Pack furniture catalogues of Sweet Home 3D into a file of objects.

python -m training.collect objects_sweethome.npz CATALOGUE.sh3f ...

The catalogues of Debian's package `sweethome3d-furniture` (CC0 1.0, CC-BY 3.0) hold OBJ files with
textures; `training.objects` describes the result. Triangles get the mean colour of their texture.
"""

from __future__ import annotations

import argparse
import logging
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fast_simplification
import numpy as np
import trimesh
from scipy.spatial import cKDTree

from .objects import Soup, write_object_file

log = logging.getLogger(__name__)

MAX_FACES = 4000  # target of the simplification; objects of many loose sheets stay larger
_TOO_MANY = 8000  # faces; larger objects are skipped
# Where the texture of a face is sampled: barycentric coordinates times their sum.
_SAMPLES = np.array([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4]], float)

Array = np.ndarray[Any, np.dtype[Any]]


def catalogue_objects(path: Path) -> Iterator[tuple[str, Soup]]:
    """Yield the name and the triangles of each readable object in a catalogue."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        listing = Path(folder, "PluginFurnitureCatalog.properties").read_text("latin-1")
        values = dict(re.findall(r"^(model(?:Rotation)?#\d+)=(.*?)\s*$", listing, re.MULTILINE))
        for key, model in values.items():
            if key.startswith("modelRotation"):
                continue
            turn = values.get(key.replace("model#", "modelRotation#"))
            rotation = np.array(turn.split(), float).reshape(3, 3) if turn else np.eye(3)
            try:
                soup = read_soup(Path(folder, model.strip("/")), rotation)
            except Exception as error:  # of any type, from trimesh's parsers
                log.warning("%s of %s is skipped: %s", model, path.name, error)
                continue
            if len(soup.faces) <= _TOO_MANY:
                yield f"{path.stem}{model}", soup


def read_soup(path: Path, rotation: Array) -> Soup:
    """Load the triangles of an OBJ file, z up, in a box of side 1.

    Args:
        path: the OBJ file.
        rotation: (3, 3) turns the file's coordinates so that y is up.
    """
    scene = trimesh.load_scene(path, process=False)
    corners, colors = [], []
    for mesh in scene.dump():
        corners.append(mesh.triangles)
        colors.append(face_colors(mesh))
    points = np.concatenate(corners).reshape(-1, 3) @ rotation.T
    points = points[:, [0, 2, 1]] * (1, -1, 1)
    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - (low + high) / 2) / (high - low).max()
    vertices, index = np.unique(points.round(5), axis=0, return_inverse=True)
    soup = Soup(vertices, index.reshape(-1, 3), np.concatenate(colors))
    return simplified(soup) if len(soup.faces) > MAX_FACES else soup


def face_colors(mesh: trimesh.Trimesh) -> Array:
    """Return the faces' sRGB colours (F, 3), 0 to 255; textures are sampled at four points."""
    material, uv = mesh.visual.material, mesh.visual.uv
    image = getattr(material, "image", None)
    if image is None or uv is None:
        return np.tile(np.asarray(material.main_color[:3], float), (len(mesh.faces), 1))
    pixels = np.asarray(image.convert("RGB"), float)
    weights = _SAMPLES / _SAMPLES.sum(axis=1, keepdims=True)
    places = np.einsum("sc,fcd->fsd", weights, uv[mesh.faces]) % 1
    height, width = pixels.shape[:2]
    column = (places[..., 0] * width).astype(int).clip(0, width - 1)
    row = ((1 - places[..., 1]) * height).astype(int).clip(0, height - 1)
    mean: Array = pixels[row, column].mean(axis=1)
    return mean


def simplified(soup: Soup) -> Soup:
    """Return about `MAX_FACES` triangles, each in the colour of the nearest original one."""
    vertices, faces = fast_simplification.simplify(
        soup.vertices.astype(np.float32), soup.faces.astype(np.int32), target_count=MAX_FACES
    )
    before = soup.vertices[soup.faces].mean(axis=1)
    _, nearest = cKDTree(before).query(vertices[faces].mean(axis=1))
    return Soup(vertices.astype(float), faces.astype(int), soup.colors[nearest])


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("catalogues", type=Path, nargs="+", help=".sh3f")
    options = parser.parse_args()
    objects = [found for path in options.catalogues for found in catalogue_objects(path)]
    write_object_file(options.out, objects)
    log.info("%d objects", len(objects))


if __name__ == "__main__":
    main()
