"""Instructions as the part of a system prompt that is theirs. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from mnemic.records import Procedure

TITLE = "# Instructions"


def render(procedures: Iterable[Procedure]) -> str:
    """The instructions under their names, in the order given, as Markdown; empty for none.

    What was recalled never goes in here: these words are meant to be followed.
    """
    parts = [f"## {procedure.name}\n\n{procedure.text}" for procedure in procedures]
    return "\n\n".join([TITLE, *parts]) if parts else ""
