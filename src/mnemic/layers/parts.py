"""What a layer needs of an open memory, and of the handle that it is given.

`Core` is the one, `ScopedMemory` the other; they stand above this room, so they are named by their shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mnemic.records import Receipt, Scope
from mnemic.retrieval.recall import Reader
from mnemic.stores.facts import FactRows
from mnemic.stores.procedures import ProcedureRows
from mnemic.stores.sessions import SessionRows
from mnemic.stores.store import Store
from mnemic.stores.streaming import StreamRows
from mnemic.stores.turns import RecentTurns
from mnemic.writing.forget import Eraser
from mnemic.writing.messages import RememberInput
from mnemic.writing.remember import Writer

if TYPE_CHECKING:
    from mnemic.layers.flushing import Flusher


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

    @property
    def fact_rows(self) -> FactRows:
        """Facts, by scope."""
        ...

    @property
    def procedure_rows(self) -> ProcedureRows:
        """Instructions, by scope."""
        ...

    @property
    def turns(self) -> RecentTurns:
        """The recent turns of sessions, with their copies elsewhere."""
        ...

    @property
    def stream_rows(self) -> StreamRows:
        """Messages that are still being said."""
        ...

    @property
    def flusher(self) -> Flusher:
        """What keeps their text meanwhile."""
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

    def upkeep(self, *, now: bool = False, heal: bool = True) -> None:
        """Finish what was left undone, now and then, or `now`."""
        ...

    def upkeep_within(self, seconds: float) -> None:
        """Have a write look for what was left undone after so many seconds at the latest."""
        ...


class Handle(Protocol):
    """The memory of one scope, as the layers are given it: a `ScopedMemory`."""

    @property
    def scope(self) -> Scope:
        """Whose memory it is."""
        ...

    def remember(self, said: RememberInput, *, session: str | None = None) -> Receipt:
        """Commit what was said."""
        ...

    @property
    def _core(self) -> Parts: ...

    def _upkeep(self, *, now: bool = False, heal: bool = True) -> None: ...
