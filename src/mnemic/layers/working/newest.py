"""The newest turns of a session that fit, read from its end a page at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mnemic.layers.working.rendering import ChatCounter
from mnemic.layers.working.units import Unit, units
from mnemic.records import Scope, Turn
from mnemic.stores.sessions import SessionRows

FIRST_PAGE, LARGEST_PAGE = 32, 512
SYSTEM = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a session: its turns after the `seq` `after`, and before `before` where that is given."""

    rows: SessionRows
    scope: Scope
    session: str
    after: int = 0
    before: int | None = None

    def tail(self, limit: int, before: int | None) -> list[Turn]:
        """The last turns of the stretch before a `seq`."""
        edge = self.before if before is None else before
        return self.rows.tail(self.scope, self.session, limit, before=edge, after=self.after)


def newest_units(
    stretch: Stretch, most: int, counter: ChatCounter, *, calls_open: bool = True
) -> tuple[list[Unit], Unit | None]:
    """The newest units that come to at most so many tokens, in their order; and the first too many.

    System messages aren't among them. A newest unit that is too long by itself is cut. Without
    `calls_open`, a call whose results are still to come is left out.
    """
    turns: list[Turn] = []
    page = FIRST_PAGE
    while True:
        earlier = stretch.tail(page, turns[0].seq if turns else None)
        turns = earlier + turns
        made = units([turn for turn in turns if turn.message.role not in SYSTEM])
        if not calls_open:
            made = [unit for unit in made if not unit.open]
        kept, over = _fitting(made, most, counter)
        if over is not None or len(earlier) < page:
            break
        page = min(page * 2, LARGEST_PAGE)
    if not kept and over is not None:
        short = shortened(over, most, counter)
        return ([short], None) if short is not None else ([], over)
    return kept, over


def _fitting(made: list[Unit], most: int, counter: ChatCounter) -> tuple[list[Unit], Unit | None]:
    total = 0
    for number in range(len(made) - 1, -1, -1):
        total += sum(map(counter.message, made[number].rendered))
        if total > most:
            return made[number + 1 :], made[number]
    return made, None


def shortened(unit: Unit, most: int, counter: ChatCounter) -> Unit | None:
    """A unit with its longest texts cut so that it has at most so many tokens; None where that can't be.

    Of a call and its results the results are cut; the call stays as it is.
    """
    turns = list(unit.turns)
    longest = sorted(range(len(turns)), key=lambda at: -len(turns[at].message.content))
    for at in longest:
        if at == 0 and len(turns) > 1:
            continue
        over = sum(map(counter.message, Unit(tuple(turns)).rendered)) - most
        if over <= 0:
            break
        message = turns[at].message
        size = counter.text(message.content)
        text = counter.cut(message.content, size - over)
        # Sizes don't add up exactly; a little less does.
        for less in (2, 4, 8, 16, 32):
            turns[at] = replace(turns[at], message=replace(message, content=text))
            if sum(map(counter.message, Unit(tuple(turns)).rendered)) <= most or not text:
                break
            text = counter.cut(message.content, size - over - less)
    made = replace(unit, turns=tuple(turns))
    fits = sum(map(counter.message, made.rendered)) <= most
    return made if fits and any(turn.message.content for turn in turns) else None
