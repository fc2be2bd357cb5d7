"""What a store remembers of itself: whose vectors it holds, which embedder it moves to, its epoch."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, insert, select, update

from mnemic.errors import EmbedderMismatch
from mnemic.stores import schema

CURRENT, NEXT = "embedder", "embedder_next"
# A restored store begins another epoch, so that no cache takes its versions for those it knew.
EPOCH = "epoch"

_value = select(schema.meta.c.value).where(schema.meta.c.key == bindparam("key"))


@dataclass(frozen=True, slots=True)
class KnownEmbedder:
    """An embedder whose vectors a store holds; `number` marks them."""

    number: int
    name: str
    dimensions: int

    @property
    def packed(self) -> str:
        """As the store writes it."""
        return f"{self.number}|{self.dimensions}|{self.name}"


def find_known(connection: Connection, key: str) -> KnownEmbedder | None:
    """The embedder under a key; None where none was remembered."""
    value = connection.execute(_value, {"key": key}).scalar()
    if value is None:
        return None
    number, dimensions, name = str(value).split("|", 2)
    return KnownEmbedder(int(number), name, int(dimensions))


def remember_known(connection: Connection, key: str, known: KnownEmbedder) -> None:
    """Write the embedder of a key."""
    set_meta(connection, key, known.packed)


def set_meta(connection: Connection, key: str, value: str) -> None:
    """Write what the store remembers under a key."""
    changed = connection.execute(
        update(schema.meta).where(schema.meta.c.key == key).values(value=value)
    )
    if not changed.rowcount:
        connection.execute(insert(schema.meta), {"key": key, "value": value})


def require_in_use(connection: Connection, embedder: KnownEmbedder) -> None:
    """Raise `EmbedderMismatch` where the embedder is neither the store's nor its next one."""
    if embedder != find_known(connection, CURRENT) and embedder != find_known(connection, NEXT):
        raise moved_away(embedder)


def moved_away(embedder: KnownEmbedder) -> EmbedderMismatch:
    """The error of a process that still uses the embedder that a store has left."""
    return EmbedderMismatch(
        f"the store has moved away from {embedder.name}; open it with its new embedder"
    )
