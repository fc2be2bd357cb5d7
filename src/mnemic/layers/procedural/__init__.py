"""Procedural memory: versioned instructions, and how they are learned, chosen and rendered."""

from mnemic.layers.procedural.instructions import Procedures
from mnemic.layers.procedural.rendering import render

__all__ = ["Procedures", "render"]
