"""A session with its older messages summed up, and the newest as they were said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import Any

from mnemic.errors import StoreError
from mnemic.inputs import read_number
from mnemic.layers.parts import Handle
from mnemic.layers.quoting import summed_up
from mnemic.layers.working.conversation import (
    Conversation,
    View,
    room_beside,
    sizes_by,
    summary_message,
)
from mnemic.layers.working.newest import Tail
from mnemic.layers.working.rendering import DEFAULT_COUNTER
from mnemic.layers.working.rolling import Roller
from mnemic.layers.working.telling import FIRST_WAIT, Teller
from mnemic.layers.working.units import Unit, says_something
from mnemic.layers.working.window import MOST_LAST, MOST_TOKENS, fill, tokens_of
from mnemic.models.llm import LanguageModel, choose_model
from mnemic.records import Message, Receipt, Summary, Turn

MOST_SUMMARY = 100_000
# Of a window of so many tokens, the summary takes at most this share.
SHARE = 0.3


class SummarizationMemory:
    """A session's newest `keep` messages as they were said, behind a summary of all that is older.

    Once over twice as many are unsummed, `messages()` rolls the older ones into the summary, of at most
    `summary_tokens`. It is kept in the store with the messages it stands for, and goes when one of them is
    forgotten. `model` puts it in words: a name such as `openai:gpt-5-mini`, or a `LanguageModel`. Without
    one, and while it fails, it is sentences that were said. `max_tokens` bounds the whole.
    """

    def __init__(
        self,
        memory: Handle,
        session: str,
        *,
        keep: int = 20,
        summary_tokens: int = 300,
        max_tokens: int | None = None,
        model: str | LanguageModel | None = None,
        counter: str | Callable[[str], int] = DEFAULT_COUNTER,
    ) -> None:
        self._conversation = Conversation(memory, session)
        self.session = self._conversation.session
        self.keep = read_number(keep, "keep", 1, MOST_LAST)
        self.summary_tokens = read_number(summary_tokens, "summary_tokens", 20, MOST_SUMMARY)
        if max_tokens is not None:
            max_tokens = read_number(max_tokens, "max_tokens", 1, MOST_TOKENS)
        self.max_tokens = max_tokens
        self._sizes = sizes_by(counter)
        chosen = None if model is None else choose_model(model)
        counted = self._sizes.counter
        teller = Teller(chosen, self.summary_tokens, counted)
        self._again_at = 0.0
        stretch = self._conversation.stretch()
        self._roller = Roller(stretch, self.summary_tokens, counted, teller)

    def add(self, message: str | Mapping[str, Any] | Message) -> Receipt:
        """Remember a message of this session; nothing is summed up yet, so it costs the same in any."""
        return self._conversation.add(message)

    def roll(self) -> Summary | None:
        """Sum up all but the newest `keep` messages now; the summary that there is then, if any.

        Called after a reply was sent, say on a thread, it leaves nothing for `messages()` to wait for.
        """
        return self._roller.roll(self.keep)

    @property
    def summary(self) -> Summary | None:
        """The summary, with the messages it stands for; None where there is none yet."""
        return self._roller.summary()

    def iter_covered(self) -> Iterator[str]:
        """Your ids of the messages that the summary stands for, in their order."""
        yield from self._roller.covered()

    def messages(self) -> list[dict[str, Any]]:
        """What to send: the system's messages, the summary, fenced, then the newest messages.

        The user's latest is among them though the summary stands for it. Sums up first where it is time to.
        Raises `BudgetTooSmall` where the system's messages alone are over `max_tokens`.
        """
        self._roll_if_due()
        return self._view().messages()

    @property
    def tokens(self) -> int:
        """The tokens of `messages()`, with the three that prime the reply."""
        self._roll_if_due()
        return self._view().tokens

    def _roll_if_due(self) -> None:
        if monotonic() < self._again_at:
            return
        summary = self._roller.summary()
        conversation = self._conversation
        raw = conversation.rows.count(
            conversation.scope,
            self.session,
            after=0 if summary is None else summary.last,
            most=2 * self.keep + 1,
        )
        if raw > 2 * self.keep:
            try:
                self.roll()
            except StoreError:
                # It can't be written now: what is there is read all the same, and no model asked in vain.
                self._again_at = monotonic() + FIRST_WAIT

    def _view(self) -> View:
        conversation = self._conversation
        return conversation.view(self._read, lambda: (conversation.stamp(), self.summary))

    def _read(self) -> View:
        conversation, sizes = self._conversation, self._sizes
        system, summary = conversation.system(), self._roller.summary()
        after = 0 if summary is None else summary.last
        tail = Tail(conversation.stretch(after))
        asked = conversation.rows.latest(conversation.scope, self.session, "user")
        if self.max_tokens is None:
            text = self._fenced(summary, None)
            kept = _everything(tail, asked)
        else:
            room = room_beside(system, self.max_tokens, 0, sizes)
            text = self._fenced(summary, int(room * SHARE))
            kept = fill(tail, room - self._size(text), sizes, asked)
        tokens = tokens_of(system, kept, sizes) + self._size(text)
        return View(system, tuple(kept), tokens, text)

    def _fenced(self, summary: Summary | None, most: int | None) -> str | None:
        """The summary as it is sent, cut to so many tokens; None where nothing of it fits."""
        if summary is None or not summary.text:
            return None
        block = summed_up(summary.text)
        if most is None or self._size(block) <= most:
            return block
        text = self._sizes.counter.cut(summary.text, most - self._size(summed_up("")))
        block = summed_up(text)
        return block if text and self._size(block) <= most else None

    def _size(self, block: str | None) -> int:
        return 0 if block is None else self._sizes.counter.message(summary_message(block))


def _everything(tail: Tail, asked: Turn | None) -> list[Unit]:
    """All units of a stretch, behind what the user `asked` last where that is older."""
    while tail.more():
        pass
    made = tail.units()
    older = asked is not None and asked.seq <= tail.stretch.after and says_something(asked.message)
    return [Unit((asked,)), *made] if asked is not None and older else made
