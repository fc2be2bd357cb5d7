"""The `mnemic` command."""

from mnemic.surfaces.cli.app import main

__all__ = ["main"]
