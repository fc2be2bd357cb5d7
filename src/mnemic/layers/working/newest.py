"""The newest turns of a session that fit, read from its end a page at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

from mnemic.layers.working.rendering import ChatCounter, to_openai
from mnemic.layers.working.shortening import shortened
from mnemic.layers.working.units import Unit, units
from mnemic.records import Scope, Turn
from mnemic.stores.sessions import SessionRows

# Each page is as large as all before it: at most twice of what is used is read.
FIRST_PAGE, LARGEST_PAGE = 32, 4_096
SYSTEM = ("system", "developer")
# Sizes are kept for so many turns at least.
KEPT_SIZES = 4_096


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a session: its turns after the `seq` `after` and, where given, before `before`."""

    rows: SessionRows
    scope: Scope
    session: str
    after: int = 0
    before: int | None = None

    def tail(self, limit: int, before: int | None) -> list[Turn]:
        """The last turns of the stretch before a `seq`."""
        edge = self.before if before is None else before
        return self.rows.tail(self.scope, self.session, limit, before=edge, after=self.after)


@dataclass(slots=True)
class Tail:
    """The end of a stretch, as far as it was read. `whole` once there is nothing before it."""

    stretch: Stretch
    turns: list[Turn] = field(default_factory=list)
    whole: bool = False
    _page: int = FIRST_PAGE

    def more(self) -> bool:
        """Read a page more; False where there is none."""
        if self.whole:
            return False
        earlier = self.stretch.tail(self._page, self.turns[0].seq if self.turns else None)
        self.turns = earlier + self.turns
        self.whole = len(earlier) < self._page
        self._page = min(self._page * 2, LARGEST_PAGE)
        return bool(earlier)

    @property
    def live(self) -> bool:
        """Whether a message of what was read is still being said."""
        return any(turn.message.state == "streaming" for turn in self.turns)

    def units(self) -> list[Unit]:
        """The units of what was read; the system's messages aren't among them."""
        return units([turn for turn in self.turns if turn.message.role not in SYSTEM])


class Sizes:
    """The tokens of turns, each counted once while it is kept. Any number of threads may ask."""

    def __init__(self, counter: ChatCounter) -> None:
        self.counter = counter
        # Two generations: what is asked for moves to the young one, and the old one goes as a whole.
        self._young: dict[tuple[object, ...], int] = {}
        self._old: dict[tuple[object, ...], int] = {}

    def of(self, turn: Turn) -> int:
        """The tokens of a turn as it is rendered."""
        said = turn.message
        # A reply under way says more under the same `seq`; a call may be taken off a message.
        key = (turn.seq, said.recorded_at, said.state, len(said.content), len(said.extra))
        size = self._young.get(key)
        if size is None:
            size = self._old.get(key)
            if size is None:
                size = self.counter.message(to_openai(said))
            if len(self._young) >= KEPT_SIZES:
                self._old, self._young = self._young, {}
            self._young[key] = size
        return size

    def unit(self, unit: Unit) -> int:
        """The tokens of a unit."""
        return sum(map(self.of, unit.turns))


def newest_units(
    stretch: Stretch, most: int, counter: ChatCounter, *, calls_open: bool = True
) -> tuple[list[Unit], Unit | None]:
    """The newest units that come to at most so many tokens, in their order; and the first too many.

    System messages aren't among them. A newest unit that is too long by itself is cut. Without
    `calls_open`, a call whose results are still to come is left out.
    """
    tail, sizes = Tail(stretch), Sizes(counter)
    while True:
        more = tail.more()
        made = [unit for unit in tail.units() if calls_open or not unit.open]
        kept, over = fitting(made, most, sizes)
        if over is not None or not more:
            break
    if not kept and over is not None:
        short = shortened(over, most, counter)
        return ([short], None) if short is not None else ([], over)
    return kept, over


def fitting(made: list[Unit], most: int, sizes: Sizes) -> tuple[list[Unit], Unit | None]:
    """The last units that come to at most so many tokens, and the one before them, if any."""
    total = 0
    for number in range(len(made) - 1, -1, -1):
        total += sizes.unit(made[number])
        if total > most:
            return made[number + 1 :], made[number]
    return made, None
