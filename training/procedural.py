"""Random furniture, vessels, plants, creatures and tools of varied proportions.

Each is a soup of closed parts that overlap, as those of the collected objects do. Its inside is
found by carving.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .furniture import cabinet, chair, lamp, sofa, table
from .living_things import cactus, conifer, creature, leafy_plant, mushroom, tree
from .parts import Parts
from .vessels import cart, extinguisher, hammer, pan, vessel

Array = np.ndarray[Any, np.dtype[Any]]

KINDS: dict[str, tuple[Callable[[Parts], None], ...]] = {
    "furniture": (chair, chair, table, cabinet, sofa, lamp),
    "vessel": (vessel,),
    "plant": (tree, leafy_plant, cactus, mushroom, conifer),
    "creature": (creature,),
    "tool": (extinguisher, hammer, pan, cart),
}


def make_procedural_object(kind: str, seed: int) -> tuple[Array, Array, Array]:
    """Return vertices (V, 3) in a box of side 1, faces (F, 3) and their colours, 0 to 255."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    parts = Parts(rng)
    KINDS[kind][seed % len(KINDS[kind])](parts)
    return parts.finish()
