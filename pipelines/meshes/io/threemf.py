"""Read and write 3MF, a zip of XML files for 3D printing.

trimesh is not used here, because it ignores the materials and the unit of a 3MF.

Source: 3MF Consortium, Core Specification 1.3 and Materials and Properties Extension 1.2.
"""

from __future__ import annotations

import io
import logging
import posixpath
import zipfile
import zlib
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InvalidInput
from ..mesh import Mesh
from ..topology import Floats, bare_shape
from .pieces import Piece
from .polygons import check_indices

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

log = logging.getLogger(__name__)

_MILLIMETRES = {
    **{"micron": 1e-3, "millimeter": 1.0, "centimeter": 10.0, "meter": 1000.0},
    **{"inch": 25.4, "foot": 304.8},
}
_CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
_MATERIALS = "http://schemas.microsoft.com/3dmanufacturing/material/2015/02"
_RELATION = "http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"
_PRODUCTION = "http://schemas.microsoft.com/3dmanufacturing/production/2015/06"
_PATH = f"{{{_PRODUCTION}}}path"
_MAX_XML = 2**30  # bytes after decompression
_MAX_DEPTH = 32  # levels of nested components
_SHAPES = ("model", "solidsupport")  # object types that are part of the shape
#: XML attribute with the sRGB colour of an entry, by kind of group.
_COLOR_OF_GROUP = {"basematerials": "displaycolor", "colorgroup": "color"}
_UP_AXIS = "image-to-3d:up_axis"
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_MODEL = "3D/3dmodel.model"
#: The parts of a file that are always the same, by name.
_PARTS = {
    "[Content_Types].xml": (
        f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels"'
        ' ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default'
        ' Extension="model" ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/>'
        "</Types>"
    ),
    "_rels/.rels": (
        f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Target="/{_MODEL}"'
        f' Id="rel0" Type="{_RELATION}"/></Relationships>'
    ),
}


def read(content: bytes, path: Path) -> tuple[list[Piece], str]:
    """Read the pieces on a 3MF's build plate, in millimetres, and the file's up axis.

    Skipped content is logged as a warning.

    Raises:
        InvalidInput: if the file is damaged.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except zipfile.BadZipFile as error:
        raise InvalidInput("it is damaged, or not a 3MF") from error
    package = _Package(archive)
    root = package.root
    build = root.find("{*}build")
    scale = _MILLIMETRES.get(root.get("unit", "millimeter"))
    if scale is None:
        raise InvalidInput(f"its unit '{root.get('unit')}' is unknown")
    items = [] if build is None else build.findall("{*}item")
    pieces = package.placed(items, package.name, np.diag([scale, scale, scale, 1.0]), None, 0)
    needed = [root.nsmap.get(prefix) for prefix in root.get("requiredextensions", "").split()]
    unknown = [name for name in needed if name and name not in (_CORE, _MATERIALS, _PRODUCTION)]
    skipped = [*(f"the extension {name}" for name in unknown), *sorted(package.skipped)]
    if skipped:
        log.warning("%s: skipped %s.", path.name, ", ".join(skipped))
    noted = next((m.text for m in root.findall("{*}metadata") if m.get("name") == _UP_AXIS), None)
    return pieces, noted or "y"


def write(mesh: Mesh, up_axis: str) -> bytes:
    """Encode a mesh in millimetres, already in the file's axes, as a 3MF.

    Vertex colours are stored. Vertices at the same position are merged, so that slicers see a
    closed body.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in (_PARTS | {_MODEL: _model(mesh, up_axis)}).items():
            entry = zipfile.ZipInfo(name)  # has a fixed date, so the same mesh gives the same file
            archive.writestr(entry, _XML + text, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _model(mesh: Mesh, up_axis: str) -> str:
    """Return the XML of a model with one object."""
    body = bare_shape(mesh)
    vertices, faces = body.vertices.float().cpu().tolist(), body.faces.cpu().tolist()
    group, properties = "", [""] * len(faces)
    if mesh.vertex_colors is not None:
        levels = (mesh.vertex_colors.clamp(0, 1).cpu().numpy() * 255).round().astype(np.uint8)
        table, which = np.unique(levels, axis=0, return_inverse=True)
        entries = "".join([f'<m:color color="#{r:02X}{g:02X}{b:02X}"/>' for r, g, b in table])
        group = f'<m:colorgroup id="2">{entries}</m:colorgroup>'
        corners = which.reshape(-1)[mesh.faces.cpu().numpy()].tolist()
        properties = [f' pid="2" p1="{a}" p2="{b}" p3="{c}"' for a, b, c in corners]
    rows = [f'<vertex x="{x:.9g}" y="{y:.9g}" z="{z:.9g}"/>' for x, y, z in vertices]
    rows += ["</vertices><triangles>"]
    rows += [
        f'<triangle v1="{a}" v2="{b}" v3="{c}"{own}/>'
        for (a, b, c), own in zip(faces, properties, strict=True)
    ]
    return (
        f'<model unit="millimeter" xml:lang="en-US" xmlns="{_CORE}" xmlns:m="{_MATERIALS}"'
        ' xmlns:image-to-3d="urn:image-to-3d"><metadata name="Application">Image to 3D</metadata>'
        f'<metadata name="{_UP_AXIS}">{up_axis}</metadata><resources>{group}'
        f'<object id="1" type="model"><mesh><vertices>{"".join(rows)}</triangles></mesh></object>'
        '</resources><build><item objectid="1"/></build></model>'
    )


class _Package:
    """The models in an archive. Each is parsed once and cached.

    Attributes:
        name, root: file name and XML root of the main model.
        skipped: kinds of unsupported objects and properties, for the warning.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._parsed = cache(lambda name: _parse(self._unpacked(name)))
        self.skipped: set[str] = set()
        self.name = self._start()
        self.root = self.model(self.name)

    def _start(self) -> str:
        """Return the name of the main model, or of the first model if no relation names one."""
        names = self._archive.namelist()
        if "_rels/.rels" in names:
            for relation in _parse(self._unpacked("_rels/.rels")):
                if relation.get("Type") == _RELATION:
                    return relation.get("Target", "").lstrip("/")
        found = [name for name in names if name.lower().endswith(".model")]
        if not found:
            raise InvalidInput("it has no model")
        return found[0]

    def model(self, name: str) -> Element:
        return self._parsed(posixpath.normpath(name).lstrip("/"))

    def _unpacked(self, name: str) -> bytes:
        actual = next((n for n in self._archive.namelist() if n.lower() == name.lower()), None)
        if actual is None:
            raise InvalidInput(f"its part {name[:80]} is missing")
        if self._archive.getinfo(actual).file_size > _MAX_XML:
            raise InvalidInput("its model is larger than a gigabyte")
        try:
            return self._archive.read(actual)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
            raise InvalidInput("it is damaged, or locked by a password") from error

    def placed(
        self,
        entries: Iterable[Element],
        model: str,
        place: Floats,
        above: tuple[str, str] | None,
        depth: int,
    ) -> list[Piece]:
        """Return the transformed triangles of the objects that entries refer to.

        Args:
            entries: items of the build plate, or components of an object.
            model: file name of the model that contains them.
            place: (4, 4) transform of the entries.
            above: group and entry of the colour inherited from the parent object, or None.
            depth: level of nested components.
        """
        found: list[Piece] = []
        for entry in entries:
            own = entry.get(_PATH, model), entry.get("objectid", "")
            found += self._pieces(*own, place @ _matrix(entry.get("transform")), above, depth)
        return found

    def _pieces(
        self, model: str, number: str, place: Floats, above: tuple[str, str] | None, depth: int
    ) -> list[Piece]:
        """Return the transformed triangles of an object and, recursively, of its components."""
        if depth > _MAX_DEPTH:
            raise InvalidInput("its objects contain each other")
        root = self.model(model)
        entry = next(
            (o for o in root.iterfind("{*}resources/{*}object") if o.get("id") == number), None
        )
        if entry is None:
            raise InvalidInput(f"its object {number[:20]} is missing")
        kind = entry.get("type", "model")
        if kind not in _SHAPES:
            self.skipped.add(f"objects of type {kind[:20]}")
            return []
        if entry.get("pid"):
            above = entry.get("pid", ""), entry.get("pindex", "0")
        components = entry.iterfind("{*}components/{*}component")
        found = self.placed(components, model, place, above, depth + 1)
        mesh = entry.find("{*}mesh")
        return found if mesh is None else [self._mesh_piece(root, mesh, place, above), *found]

    def _mesh_piece(
        self, root: Element, mesh: Element, place: Floats, above: tuple[str, str] | None
    ) -> Piece:
        """Return the triangles of a mesh, transformed by a matrix `place` (4, 4).

        `above` is the group and entry of the object's default colour, or None.
        """
        points = mesh.iterfind("{*}vertices/{*}vertex")
        vertices = np.array([[float(v.get(axis, "nan")) for axis in "xyz"] for v in points])
        rows = list(mesh.iterfind("{*}triangles/{*}triangle"))
        faces = np.array([[int(t.get(f"v{i}", "-1")) for i in (1, 2, 3)] for t in rows], np.int64)
        vertices, faces = vertices.reshape(-1, 3), faces.reshape(-1, 3)
        check_indices(faces, len(vertices))
        colors = self._corner_colors(root, rows, above)
        if np.linalg.det(place[:3, :3]) < 0:
            faces = faces[:, ::-1]
            colors = None if colors is None else colors[:, ::-1]
        moved = vertices @ place[:3, :3].T + place[:3, 3]
        if colors is None:
            return Piece(moved, faces)
        table, which = np.unique(colors.reshape(-1, 3), axis=0, return_inverse=True)
        return Piece.split(moved, faces, vertex_colors=(which.reshape(-1, 3), table))

    def _corner_colors(
        self, root: Element, rows: list[Element], above: tuple[str, str] | None
    ) -> Floats | None:
        """Return the sRGB colours (F, 3, 3) of corners, white by default; None if all lack one."""
        palette = cache(partial(self._palette, root))
        colors = np.ones((len(rows), 3, 3))
        found = False
        for i, triangle in enumerate(rows):
            group = triangle.get("pid") or (above[0] if above else None)
            if not group:
                continue
            first = triangle.get("p1") or (above[1] if above and above[0] == group else "0")
            entries = (first, triangle.get("p2") or first, triangle.get("p3") or first)
            for corner, entry in enumerate(entries):
                if (color := palette(group).get(int(entry))) is not None:
                    colors[i, corner], found = color, True
        return colors if found else None

    def _palette(self, root: Element, number: str) -> dict[int, Floats]:
        """Return the sRGB colours (3,) in [0, 1] of a group, by index.

        Groups other than base materials and colours are unsupported and give no colours.
        """
        groups = (g for g in root.iterfind("{*}resources/*") if g.get("id") == number)
        group = next((g for g in groups if not g.tag.endswith("}object")), None)
        if group is None:
            return {}
        kind = str(group.tag).rpartition("}")[2]
        if kind not in _COLOR_OF_GROUP:
            self.skipped.add(f"the colours of {kind}")
            return {}
        texts = [entry.get(_COLOR_OF_GROUP[kind], "") for entry in group.iterfind("*")]
        return {
            i: np.array([int(t[k : k + 2], 16) / 255 for k in (1, 3, 5)])
            for i, t in enumerate(texts)
            if len(t) >= 7 and t[0] == "#"
        }


def _parse(text: bytes) -> Element:
    from lxml import etree

    try:
        return etree.fromstring(
            text, etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
        )
    except etree.XMLSyntaxError as error:
        raise InvalidInput("its XML is damaged") from error


def _matrix(text: str | None) -> Floats:
    """Parse a transform of twelve numbers into a matrix (4, 4) for column vectors.

    3MF stores the matrix for row vectors, so it is transposed.
    """
    place = np.eye(4)
    if text:
        place[:3] = np.array(text.split(), dtype=np.float64).reshape(4, 3).T
    return place
