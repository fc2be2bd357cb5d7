"""Semantic memory: the guide's name for a scope's facts."""

from __future__ import annotations

from mnemic.layers.facts import Facts
from mnemic.layers.parts import Handle


class SemanticMemory(Facts):
    """The facts of one user, agent or shared space, given its handle; the same as `ana.facts`."""

    def __init__(self, handle: Handle) -> None:
        super().__init__(handle._core, handle.scope)
