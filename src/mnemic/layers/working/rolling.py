"""Keeping the summary of a session's older messages: of an older one and what came since, or of all anew.

It stands for a stretch of the session from its beginning, known to the message. Where a model fails,
sentences that were said stand in, and it is asked again later, with the messages themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from mnemic.layers.working.extract import extract
from mnemic.layers.working.newest import SYSTEM, Stretch, Tail
from mnemic.layers.working.rendering import ChatCounter
from mnemic.layers.working.telling import Teller
from mnemic.layers.working.units import Unit
from mnemic.records import Summary, Turn

EXTRACT = "extract"
# A summary is made of the messages themselves again once it was rolled on so often and stands for so much
# more than when it was last: then each message is read about five times, however long the session grows.
MOST_ROLLS, GROWTH = 4, 1.25
# Turns that are read at once, and of which sentences are chosen first where there are more.
PAGE = 500
# Chosen sentences of one page may come to so many times a summary's size; the last choice is among all.
ROOMY = 4
_TRIES = 4


class Roller:
    """Keeps the summary of one session up to date, in at most `most` tokens."""

    def __init__(self, stretch: Stretch, most: int, counter: ChatCounter, teller: Teller) -> None:
        self._stretch = stretch
        self._most = most
        self._counter = counter
        self._teller = teller

    def summary(self) -> Summary | None:
        """The summary as it is."""
        return self._stretch.rows.summary(self._stretch.scope, self._stretch.session)

    def roll(self, keep: int) -> Summary | None:
        """Sum up all but the newest `keep` messages; the summary that there is then, if any.

        Where another process sums up at the same time, one of them counts.
        """
        known = self.summary()
        for _ in range(_TRIES):
            last = self._border(keep, 0 if known is None else known.last)
            if last is None:
                return known
            new = self._next(known, last)
            if self._stretch.rows.set_summary(self._stretch.scope, new, known):
                return new
            known = self.summary()  # another was quicker, or something was forgotten
        return known

    def covered(self) -> Iterator[str]:
        """The ids of the messages that the summary stands for."""
        known = self.summary()
        if known is not None:
            for page in self._pages(known.first - 1, known.last):
                yield from (turn.message.id for turn in page)

    # --- how far ------------------------------------------------------------------------------------

    def _border(self, keep: int, after: int) -> int | None:
        """The `seq` of the last message to sum up; None where there is none.

        A call and its results stay on one side, and a reply that goes on isn't summed up yet.
        """
        tail = Tail(replace(self._stretch, after=after))
        older, kept = self._parted(tail, keep)
        if not older:
            return None
        border = kept[0].seq
        for unit in reversed(older):
            if max(turn.seq for turn in unit.turns) >= border:
                border = unit.seq
        for page in self._pages(after, border - 1, lasting=False):
            live = [turn.seq for turn in page if turn.message.state == "streaming"]
            if live:
                border = min(border, live[0])
        below = self._stretch.rows.tail(
            self._stretch.scope, self._stretch.session, 1, before=border, after=after
        )
        return below[0].seq if below else None

    def _parted(self, tail: Tail, keep: int) -> tuple[list[Unit], list[Unit]]:
        """What is older than the newest units of at least `keep` messages, and these."""
        while tail.more():
            made = tail.units()
            at, said = len(made), 0
            while at and said < keep:
                at -= 1
                said += len(made[at].turns)
            if at:
                return made[:at], made[at:]
        return [], []

    # --- of what ------------------------------------------------------------------------------------

    def _next(self, known: Summary | None, last: int) -> Summary:
        teller = self._teller
        if teller.asks:
            # Chosen sentences only stood in for a model: it gets the messages that they are of.
            start = None if known is None or known.made_by == EXTRACT or _is_old(known) else known
            new = self._standing_for(start, last, teller.name)
            text = teller.tell(
                "" if start is None else start.text, lambda: self._since(start, last)
            )
            if text is not None:
                return replace(new, text=text)
        start = None if known is None or _is_old(known) else known
        new = self._standing_for(start, last, EXTRACT)
        return replace(new, text=self._chosen(start, last))

    def _standing_for(self, start: Summary | None, last: int, made_by: str) -> Summary:
        """A summary still without a text.

        Its messages are counted before they are read for the text: where one is forgotten meanwhile,
        they are fewer when it is written, and it isn't.
        """
        first, count = last, 0
        for page in self._since(start, last):
            first = min(first, page[0].seq)
            count += len(page)
        if start is not None:
            first, count = start.first, count + start.messages
        return Summary(
            session=self._stretch.session,
            text="",
            first=first,
            last=last,
            messages=count,
            rolls=0 if start is None else start.rolls + 1,
            fresh=count if start is None else start.fresh,
            made_by=made_by,
            made_at=datetime.now(UTC),
        )

    def _chosen(self, start: Summary | None, last: int) -> str:
        """Sentences of the messages, and of the summary before them."""
        pieces = [] if start is None else [start.text]
        pieces += [
            extract(page, self._most * ROOMY, self._counter) for page in self._since(start, last)
        ]
        return extract((), self._most, self._counter, "\n".join(filter(None, pieces)))

    def _since(self, start: Summary | None, last: int) -> Iterator[list[Turn]]:
        return self._pages(0 if start is None else start.last, last)

    def _pages(self, after: int, until: int, *, lasting: bool = True) -> Iterator[list[Turn]]:
        """Turns by the page; those that a summary may stand for: not the system's, none that expires."""
        stretch = self._stretch
        while True:
            read = stretch.rows.turns(
                stretch.scope, stretch.session, PAGE, after=after, until=until
            )
            page = [turn for turn in read if not lasting or _lasts(turn)]
            if page:
                yield page
            if len(read) < PAGE:
                return
            after = read[-1].seq


def _is_old(known: Summary) -> bool:
    """Whether it is time to make the summary of the messages themselves."""
    return known.rolls >= MOST_ROLLS and known.messages >= GROWTH * known.fresh


def _lasts(turn: Turn) -> bool:
    return turn.message.role not in SYSTEM and turn.message.expires_at is None
