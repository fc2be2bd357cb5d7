"""Making anew what is derived from text, where it is missing or can't be used: vectors and terms."""

from __future__ import annotations

from collections.abc import Callable

from mnemic.models.terms import TERMS_VERSION, count_terms
from mnemic.records import MemoryRecord, Scope
from mnemic.stores.rows import Counted
from mnemic.writing.passages import text_to_embed
from mnemic.writing.remember import EMBED_BATCH, Writer

Progress = Callable[[int], None]


def mend_scope(
    writer: Writer, scope: Scope, progress: Progress | None = None, *, codes: bool = False
) -> tuple[int, int]:
    """Mend the terms, then the vectors, of one scope; returns how many of each were made.

    With `codes` also the vectors that an older version made, without codes of tokens.
    """
    words = mend_terms(writer, scope, progress)
    coded = codes and hasattr(writer.embedder, "token_bytes")
    writer.derived.drop_bad_vectors(scope, writer.known, coded=coded)
    return words, fill_vectors(writer, scope, progress)


def mend_terms(writer: Writer, scope: Scope, progress: Progress | None = None) -> int:
    """Count the words of memories anew whose terms are missing, damaged or of another version."""
    rows, made = writer.derived, 0
    while batch := rows.without_terms(scope, TERMS_VERSION, EMBED_BATCH):
        rows.put_terms(scope, TERMS_VERSION, [_counted(key, record) for key, record in batch])
        made += len(batch)
        if progress is not None:
            progress(made)
    return made


def _counted(key: bytes, record: MemoryRecord) -> Counted:
    terms = count_terms(text_to_embed(record.speaker, record.text))
    return Counted(key, record.speaker, record.text, terms.length, terms.hashes, terms.counts)


def fill_vectors(
    writer: Writer, scope: Scope, progress: Progress | None = None, made: int = 0
) -> int:
    """Make the vectors that a scope's memories lack; returns `made` and how many more."""
    while batch := writer.derived.without_vector(scope, writer.known, EMBED_BATCH):
        writer.embed_records(scope, batch)
        made += len(batch)
        if progress is not None:
            progress(made)
    return made
