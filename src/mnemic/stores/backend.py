"""What a database must supply beside SQL: the seam that `sqlite.py` fills, and others will."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine

from mnemic.errors import MnemicError

# The execution option that says by which statements a transaction begins; none for a single reading
# statement, which sees one moment of the database without one.
BEGIN = "mnemic_begin"


class Backend(Protocol):
    """What a database must supply beside SQL."""

    url: str

    def make_engine(self) -> Engine:
        """Make the pool of connections."""
        ...

    def begin_write(self, engine: Engine, *, durable: bool) -> Connection:
        """Connect for a write that takes the lock at its first statement."""
        ...

    def settle(self, engine: Engine) -> None:
        """Bring a database that is ours, or empty, into the mode that we work in."""
        ...

    def opened(self) -> None:
        """Take note that connections are, or may be, open."""
        ...

    def closed(self) -> None:
        """Take note that all connections are closed."""
        ...

    def claim(self, connection: Connection) -> None:
        """Mark a new database as ours."""
        ...

    def is_foreign(self, connection: Connection) -> bool:
        """Tell whether it holds another program's tables."""
        ...

    def bytes_on_disk(self) -> int:
        """Size of everything it keeps."""
        ...

    def check_place(self) -> None:
        """Raise `StoreMoved` where what is open isn't what the name stands for any more."""
        ...

    def truncate_log(self, engine: Engine) -> bool:
        """Empty the log; False where a reader stands in the way."""
        ...

    def rewrite(self, engine: Engine) -> bool:
        """Write everything anew without what was deleted."""
        ...

    def left_over(self, texts: Sequence[bytes]) -> bool:
        """Tell whether a piece of any of the texts is left where no row is."""
        ...

    def copy_to(
        self, engine: Engine, path: Path, replace: bool, progress: Callable[[int, int], None] | None
    ) -> int:
        """Write a copy of one moment of the database to a file; returns its size in bytes."""
        ...

    def reindex(self, engine: Engine) -> None:
        """Make its own indexes anew from its rows."""
        ...

    def damage(self, engine: Engine) -> list[str]:
        """What it finds wrong with itself."""
        ...

    def explain(self, error: BaseException) -> MnemicError | None:
        """Turn a driver's error into one of ours."""
        ...
