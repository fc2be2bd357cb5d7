"""How versions of an instruction follow one another: which counts, and what becomes of a proposal.

Each function works in a transaction that the caller has begun.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mnemic.errors import InputError, VersionConflict
from mnemic.inputs import shown
from mnemic.layers.procedural.learning import has_rule, with_rule
from mnemic.layers.procedural.reading import check_size
from mnemic.models.terms import TERMS_VERSION, count_terms
from mnemic.records import Example, Procedure, ProcedureAuthor, ProcedureMode, Scope
from mnemic.stores.procedures import HEADS, NewVersion, Writing
from mnemic.stores.rows import NewPassage, to_id
from mnemic.writing.passages import text_to_embed


def head_of(versions: Iterable[Procedure]) -> Procedure | None:
    """The version that counts: in force, or disabled."""
    return next((version for version in versions if version.status in HEADS), None)


def new_version(
    name: str,
    text: str,
    mode: ProcedureMode,
    *,
    author: ProcedureAuthor = "user",
    reason: str | None = None,
    examples: tuple[Example, ...] = (),
) -> NewVersion:
    """A version that will be in force, ready to be written."""
    terms = count_terms(text_to_embed(name, text))
    words = NewPassage(
        text=text,
        start=0,
        stop=len(text),
        fingerprint=b"",  # the store gives each version one of its own
        length=terms.length,
        hashes=terms.hashes,
        counts=terms.counts,
        terms_version=TERMS_VERSION,
    )
    return NewVersion(name, words, mode, "current", author, reason, examples)


def replace_head(
    writing: Writing, head: Procedure | None, new: NewVersion, action: str
) -> Procedure:
    """Write a version in the place of the one that counts; disabled where that is."""
    if head is None:
        return writing.add(new, action)
    writing.settle(head, "superseded", "superseded")
    return writing.add(replace(new, status=head.status), action)


def propose(writing: Writing, head: Procedure | None, new: NewVersion) -> Procedure:
    """Write a version that waits for approval."""
    base = None if head is None else head.version
    return writing.add(replace(new, status="proposed", base=base), "proposed")


def learned(versions: Sequence[Procedure], feedback: str) -> Procedure | None:
    """The version that some feedback has led to already: one that waits, or the one that counts."""
    for version in versions:
        if version.status == "proposed" and version.reason == feedback:
            return version
    head = head_of(versions)
    if head is None:
        return None
    led = head.author in ("feedback", "model") and head.reason == feedback
    return head if led or has_rule(head.text, feedback) else None


def approve(writing: Writing, proposal: Procedure) -> Procedure:
    """Put a proposal in force, or what it proposes on top of what has come into force since."""
    head = writing.head(proposal.name)
    if proposal.base == (None if head is None else head.version):
        status = "current" if head is None else head.status
        if head is not None:
            writing.settle(head, "superseded", "superseded")
        return writing.settle(proposal, status, "approved")
    if proposal.author != "feedback" or proposal.reason is None:
        now = "none" if head is None else f"version {head.version}"
        made = "none" if proposal.base is None else f"version {proposal.base}"
        raise VersionConflict(
            f"version {proposal.version} of {shown(proposal.name)} was written when {made} was in"
            f" force, and {now} is now; reject it and learn again, or revise by hand"
        )
    writing.settle(proposal, "merged", "merged")
    if head is None:
        return writing.add(_on_top(proposal, None), "approved")
    if has_rule(head.text, proposal.reason):
        return head
    return replace_head(writing, head, _on_top(proposal, head), "approved")


def _on_top(proposal: Procedure, head: Procedure | None) -> NewVersion:
    text = check_size(with_rule(None if head is None else head.text, proposal.reason or ""))
    of = proposal if head is None else head
    return new_version(
        of.name, text, of.mode, author="feedback", reason=proposal.reason, examples=of.examples
    )


def find_proposal(writing: Writing, scope: Scope, id: str, name: str | None) -> Procedure:
    """The proposal of an id, or the only one of a name; raises `InputError` where there is none."""
    key = to_id(id)
    found = None if key is None else writing.find(key)
    if found is not None:
        if found.status != "proposed":
            raise InputError(
                f"version {found.version} of {shown(found.name)} waits for no approval: it is"
                f" {found.status}"
            )
        return found
    named = [] if name is None else writing.versions(name)
    waiting = [each for each in named if each.status == "proposed"]
    if not waiting:
        raise InputError(
            f"{scope} has no proposal {shown(name or id)}; `proposals` lists those that wait"
        )
    if len(waiting) > 1:
        ids = ", ".join(f"{each.id} (version {each.version})" for each in waiting[:5])
        raise InputError(f"{shown(name)} has {len(waiting)} proposals; name one by its id: {ids}")
    return waiting[0]
