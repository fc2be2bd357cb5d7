"""Looking a store over: its files, its model, what is derived, what was left undone. Changes nothing."""

from __future__ import annotations

from mnemic.errors import EmbedderError
from mnemic.models.embedder import Embedder, embed_checked
from mnemic.models.terms import TERMS_VERSION
from mnemic.records import Finding
from mnemic.stores.ledger import Ledger
from mnemic.stores.outbox import Outbox
from mnemic.stores.turns import RecentTurns


def check(ledger: Ledger, outbox: Outbox, embedder: Embedder, turns: RecentTurns) -> list[Finding]:
    """Every check, in the order in which a fault would explain the next one."""
    files = _files(ledger)
    if not files.ok:
        return [files]
    bad_vectors, bad_terms = ledger.unusable(TERMS_VERSION)
    elsewhere = turns.check()
    return [
        files,
        _model(ledger, embedder),
        _vectors(ledger, bad_vectors),
        _terms(bad_terms),
        _jobs(outbox),
        *([] if elsewhere is None else [elsewhere]),
    ]


def _files(ledger: Ledger) -> Finding:
    damage = ledger.damage()
    if damage:
        says = f"damaged: {damage[0]}; try mnemic doctor --repair, else restore a backup"
        return Finding("files", False, says)
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


def _vectors(ledger: Ledger, bad: int) -> Finding:
    stats = ledger.stats()
    missing = bad + sum(scope.without_vector for scope in stats.scopes)
    if missing:
        says = f"{missing:,} of {stats.memories:,} memories lack a usable one (they are found by words)"
        return Finding("vectors", False, f"{says}; mnemic doctor --repair makes them")
    return Finding("vectors", True, f"all {stats.memories:,} memories have one")


def _terms(bad: int) -> Finding:
    if bad:
        says = f"the words of {bad:,} memories are not counted as this version counts them"
        return Finding("terms", False, f"{says}; mnemic doctor --repair does that")
    return Finding("terms", True, "the words of all memories are counted")


def _jobs(outbox: Outbox) -> Finding:
    counts = outbox.counts()
    listed = ", ".join(f"{n:,} {kind} ({state})" for (kind, state), n in sorted(counts.items()))
    if any(state != "under way" for _, state in counts):
        return Finding("jobs", False, f"{listed}; mnemic doctor --repair does them now")
    return Finding("jobs", True, listed or "nothing is left undone")
