"""What a layer needs of an open memory, and of the handle that it is given.

`Core` is the one, `ScopedMemory` the other; they stand above this room, so they are named by their shape.
"""

from __future__ import annotations

from typing import Protocol

from mnemic.records import Scope
from mnemic.retrieval.recall import Reader
from mnemic.stores.sessions import SessionRows
from mnemic.stores.store import Store
from mnemic.writing.forget import Eraser
from mnemic.writing.remember import Writer


class Parts(Protocol):
    """The parts of one open memory."""

    @property
    def store(self) -> Store:
        """Content, by scope."""
        ...

    @property
    def session_rows(self) -> SessionRows:
        """Conversations, by scope."""
        ...

    def writer(self) -> Writer:
        """What a write needs."""
        ...

    def reader(self) -> Reader | None:
        """What a question needs; None where nothing was ever written."""
        ...

    def eraser(self) -> Eraser:
        """What an erasure needs."""
        ...


class Handle(Protocol):
    """The memory of one scope, as the layers are given it: a `ScopedMemory`."""

    @property
    def scope(self) -> Scope:
        """Whose memory it is."""
        ...

    @property
    def _core(self) -> Parts: ...
