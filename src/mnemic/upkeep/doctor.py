"""Looking a store over: its files, its model, and what was left undone. Changes nothing."""

from __future__ import annotations

from mnemic.errors import EmbedderError
from mnemic.models.embedder import Embedder, embed_checked
from mnemic.records import Finding
from mnemic.stores.ledger import Ledger


def check(ledger: Ledger, embedder: Embedder) -> list[Finding]:
    """Every check, in the order in which a fault would explain the next one."""
    files = _files(ledger)
    if not files.ok:
        return [files]
    return [files, _model(ledger, embedder), _vectors(ledger), _jobs(ledger)]


def _files(ledger: Ledger) -> Finding:
    damage = ledger.damage()
    if damage:
        return Finding("files", False, f"damaged: {damage[0]}; restore a backup")
    stats = ledger.stats()
    size = stats.bytes_on_disk / 1e6
    return Finding("files", True, f"{stats.url}, schema {stats.schema}, {size:.1f} MB, intact")


def _model(ledger: Ledger, embedder: Embedder) -> Finding:
    known = ledger.embedder()
    if known is not None and (known.name, known.dimensions) != (embedder.name, embedder.dimensions):
        says = (
            f"the store holds vectors of {known.name}, this is {embedder.name}; run mnemic reembed"
        )
        return Finding("embedder", False, says)
    try:
        embed_checked(embedder, ["Is anybody there?"])
    except EmbedderError as error:
        return Finding("embedder", False, str(error))
    return Finding("embedder", True, f"{embedder.name}, {embedder.dimensions} dimensions, answers")


def _vectors(ledger: Ledger) -> Finding:
    stats = ledger.stats()
    missing = sum(scope.without_vector for scope in stats.scopes)
    if missing:
        says = f"{missing:,} of {stats.memories:,} memories wait for one (they are found by words)"
        return Finding("vectors", False, f"{says}; mnemic doctor --repair makes them")
    return Finding("vectors", True, f"all {stats.memories:,} memories have one")


def _jobs(ledger: Ledger) -> Finding:
    waiting = ledger.stats().jobs
    if waiting:
        listed = ", ".join(f"{number} {kind}" for kind, number in waiting.items())
        return Finding(
            "jobs", False, f"left undone: {listed}; mnemic doctor --repair finishes them"
        )
    return Finding("jobs", True, "nothing is left undone")
