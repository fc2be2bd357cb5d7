"""The flow of a context: what must stay, then profile, summary, turns and recall, each within its share.

It stores nothing. A share is the most that a part may take of what is left for it; what the parts
before it don't take is recall's. In the end the whole is counted from scratch.
"""

from __future__ import annotations

from collections.abc import Sequence

from mnemic.context.ask import Wanted
from mnemic.context.draft import Draft
from mnemic.context.pack import pack_facts, pack_hits
from mnemic.context.result import Context, Dropped
from mnemic.context.unsaid import Unsaid
from mnemic.errors import BudgetTooSmall
from mnemic.layers.facts import Facts
from mnemic.layers.parts import Parts
from mnemic.layers.procedural import Procedures
from mnemic.layers.working.newest import Stretch, newest_units
from mnemic.records import Procedure, Recall, Scope, Turn
from mnemic.retrieval.recall import Question
from mnemic.stores.rows import asked_at, zone_of
from mnemic.timing import Timer

# Of what the prompt, the standing instructions and the query leave, a part takes at most this much.
INSTRUCTIONS, PROFILE, SUMMARY, TURNS = 0.15, 0.12, 0.15, 0.40
MOST_FACTS = 40
MOST_HITS = 400
# A recalled memory comes to so many tokens at least: no more hits are asked for than could fit.
LEAST_HIT = 12
# A memory that is less likely than this to be evidence is no use to a model, however much room there is.
LEAST_RELEVANT = 0.002
# What recall reads of a long query: this many characters of its beginning, and of its end.
READ = 4_000


class Assembler:
    """Assembles the contexts of one scope."""

    def __init__(self, parts: Parts, scope: Scope) -> None:
        self._parts = parts
        self._scope = scope

    def context(self, wanted: Wanted) -> Context:
        """Assemble one; raises `BudgetTooSmall` where what must stay doesn't fit."""
        timer = Timer()
        with timer.step("frame"):
            draft, relevant = self._frame(wanted)
            room = _room(draft, wanted)
            dropped = _take_instructions(draft, relevant, int(room * INSTRUCTIONS), wanted)
            dropped += self._take_profile(draft, int(room * PROFILE), wanted)
        with timer.step("session"):
            asked_before, more = self._take_session(draft, room, wanted)
            dropped += more
        with timer.step("recall"):
            left = wanted.budget - draft.size(wanted.counter)
            found = self._recall(wanted, left)
        with timer.step("pack"):
            dropped += _take_hits(draft, found, asked_before, wanted)
            dropped += draft.shed(wanted.counter, wanted.budget)
        messages = draft.messages()
        return Context(
            query=wanted.query,
            messages=messages,
            tokens=draft.size(wanted.counter),
            budget=wanted.budget,
            dropped=tuple(dropped),
            hits=tuple(draft.hits),
            facts=tuple(draft.facts),
            procedures=tuple(draft.procedures),
            summary=draft.summary,
            turns=tuple(turn for unit in draft.units for turn in unit.turns),
            error=found.error,
            timings_ms=timer.spent,
        )

    def _frame(self, wanted: Wanted) -> tuple[Draft, list[Procedure]]:
        """What must stay, and the instructions that may."""
        rows = self._parts.session_rows
        settings = rows.settings(self._scope)
        system = [wanted.prompt] if wanted.prompt else []
        if wanted.session is not None:
            stored = rows.system(self._scope, wanted.session)
            system += [turn.message.content.strip() for turn in stored]
        always: list[Procedure] = []
        relevant: list[Procedure] = []
        for scope in wanted.behaves:
            for procedure in Procedures(self._parts, scope).active(_read(wanted.query)):
                (always if procedure.mode == "always" else relevant).append(procedure)
        draft = Draft(
            query=wanted.query,
            zone=zone_of(settings),
            today=asked_at(wanted.at, settings).date(),
            system=tuple(dict.fromkeys(text for text in system if text)),
            procedures=always,
            fixed=len(always),
        )
        return draft, relevant

    def _take_profile(self, draft: Draft, most: int, wanted: Wanted) -> list[Dropped]:
        facts = Facts(self._parts, self._scope).profile(MOST_FACTS)
        draft.facts, dropped = pack_facts(facts, most, wanted.counter, draft.zone)
        return dropped

    def _take_session(
        self, draft: Draft, room: int, wanted: Wanted
    ) -> tuple[Turn | None, list[Dropped]]:
        """The session's summary and last turns; returns the query's own turn, if it is there already."""
        if wanted.session is None:
            return None, []
        rows, counter = self._parts.session_rows, wanted.counter
        summary = rows.summary(self._scope, wanted.session)
        if summary is not None:
            draft.summary = summary
            draft.summed_up = counter.cut(summary.text, int(room * SUMMARY))
        after = 0 if summary is None else summary.last
        last = rows.tail(self._scope, wanted.session, 1, after=after)
        asked = last[0] if last and _is_asked(last[0], wanted.query) else None
        before = None if asked is None else asked.seq
        stretch = Stretch(rows, self._scope, wanted.session, after, before)
        most = int(room * TURNS)
        draft.units, over = newest_units(stretch, most, counter, calls_open=False)
        if over is None:
            return asked, []
        last_out = over.turns[0].message.id
        return asked, [Dropped("turn", last_out, "no room for it and the turns before it")]

    def _recall(self, wanted: Wanted, left: int) -> Recall:
        reader = self._parts.reader()
        # The best is asked for also where there is no room: `dropped` says that it was left out.
        limit = max(1, min(MOST_HITS, left // LEAST_HIT))
        if reader is None:
            return Recall(wanted.query, ())
        asked = Question(_read(wanted.query), wanted.at, limit, min_relevance=LEAST_RELEVANT)
        return reader.recall(self._scope, asked)


def _read(query: str) -> str:
    """What recall reads of a query."""
    return query if len(query) <= 2 * READ else f"{query[:READ]}\n{query[-READ:]}"


def _is_asked(turn: Turn, query: str) -> bool:
    return turn.message.role == "user" and turn.message.content.strip() == query.strip()


def _room(draft: Draft, wanted: Wanted) -> int:
    """What is left beside what must stay."""
    needed = draft.size(wanted.counter)
    if needed > wanted.budget:
        raise BudgetTooSmall(
            f"the system prompt, the standing instructions and the query alone come to {needed}"
            f" tokens, over the budget of {wanted.budget}; give a budget of {needed} or more, or less"
            " of these",
            needed,
        )
    return wanted.budget - needed


def _take_instructions(
    draft: Draft, relevant: Sequence[Procedure], most: int, wanted: Wanted
) -> list[Dropped]:
    dropped: list[Dropped] = []
    for procedure in relevant:
        size = wanted.counter.text(procedure.text) + wanted.counter.text(procedure.name) + 8
        if size <= most:
            draft.procedures.append(procedure)
            most -= size
        else:
            dropped.append(Dropped("instruction", procedure.id, "no room beside better ones"))
    return dropped


def _take_hits(draft: Draft, found: Recall, asked: Turn | None, wanted: Wanted) -> list[Dropped]:
    """Recalled memories that say something new, as far as there is room."""
    turns = [turn for unit in draft.units for turn in unit.turns]
    unsaid = Unsaid(draft.query, turns if asked is None else [*turns, asked], draft.facts)
    if draft.summary is not None:
        unsaid.also(draft.summed_up)
    new, dropped = unsaid.of(found.hits)
    draft.hits = new[
        :1
    ]  # an empty fence costs nothing; one with a memory shows what the frame does
    frame = draft.size(wanted.counter) - sum(wanted.counter.text(h.memory.text) for h in draft.hits)
    draft.hits, more = pack_hits(new, wanted.budget - frame, wanted.counter, draft.zone)
    return dropped + more
