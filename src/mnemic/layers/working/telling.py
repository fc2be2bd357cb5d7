"""A summary in a model's words: of turns, and of the summary before them.

What a model is given at once is bounded, and so is what it is given in all: of a very long stretch it gets
sentences that were chosen from every part. One that fails is left alone for a while.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.resources import files
from time import monotonic

from mnemic.errors import ModelError
from mnemic.layers.working.extract import extract
from mnemic.layers.working.rendering import ChatCounter, words_of
from mnemic.models.llm import LanguageModel
from mnemic.records import Turn

# Tokens that a model is given at once, and how often for one summary, the last call that joins them aside.
CHUNK, MOST_CHUNKS = 6_000, 16
# A model that failed is left alone for this long, and for twice as long each time, in seconds.
FIRST_WAIT, LONGEST_WAIT = 30.0, 3_600.0

Pages = Callable[[], Iterable[list[Turn]]]


class Teller:
    """A model that sums up in at most so many tokens. Without a model it never `asks`."""

    def __init__(self, model: LanguageModel | None, most: int, counter: ChatCounter) -> None:
        self._model = model
        self._most = most
        self._counter = counter
        self._wait = FIRST_WAIT
        self._again_at = 0.0

    @property
    def asks(self) -> bool:
        """Whether there is a model, and it isn't being left alone."""
        return self._model is not None and monotonic() >= self._again_at

    @property
    def name(self) -> str:
        """The model's name, as it is noted beside its summary."""
        return "" if self._model is None else self._model.name[:128]

    def tell(self, before: str, pages: Pages) -> str | None:
        """The summary of a summary and the turns after it; None where the model fails, or has no time."""
        if not self.asks:
            return None
        try:
            notes = [self._asked(before, lines) for lines in _packed(self._lines(pages))]
            while len(notes) > 1:
                notes = [self._asked("", some) for some in _groups(notes, self._counter)]
        except ModelError:
            self._again_at = monotonic() + self._wait
            self._wait = min(self._wait * 2, LONGEST_WAIT)
            return None
        self._wait = FIRST_WAIT
        return notes[0] if notes else before

    def _lines(self, pages: Pages) -> Iterator[tuple[str, int]]:
        """The turns as lines of JSON with their sizes, thinned out where they are too many."""
        total = sum(size for page in pages() for _, size in self._whole(page))
        for page in pages():
            if total <= CHUNK * MOST_CHUNKS:
                yield from self._whole(page)
                continue
            size = sum(size for _, size in self._whole(page))
            some = extract(page, CHUNK * MOST_CHUNKS * size // total, self._counter)
            for line in some.splitlines():
                yield self._sized({"said": line})

    def _whole(self, page: Iterable[Turn]) -> Iterator[tuple[str, int]]:
        for turn in page:
            said = turn.message
            words = words_of(said)
            if words:
                text = self._counter.cut(words, CHUNK // 2)
                date = f"{said.said_at:%Y-%m-%d}"
                yield self._sized({"date": date, "who": said.name or said.role, "text": text})

    def _sized(self, given: dict[str, str]) -> tuple[str, int]:
        line = json.dumps(given, ensure_ascii=False)
        return line, self._counter.text(line)

    def _asked(self, before: str, lines: list[str]) -> str:
        assert self._model is not None
        so_far = json.dumps({"summary so far": before}, ensure_ascii=False)
        given = "\n".join([so_far, *lines] if before else lines)
        said: object = self._model.complete(_prompt(), given, max_tokens=self._most)
        text = said.strip() if isinstance(said, str) else ""
        text = text.replace("\0", "").encode("utf-8", "replace").decode()
        text = self._counter.cut(text, self._most)
        if not text:
            raise ModelError(f"{self.name} gave no summary; it is asked again later")
        return text


def _packed(lines: Iterable[tuple[str, int]]) -> Iterator[list[str]]:
    """Lines, so many at once as a model is given."""
    some: list[str] = []
    tokens = 0
    for line, size in lines:
        if some and tokens + size > CHUNK:
            yield some
            some, tokens = [], 0
        some.append(line)
        tokens += size
    if some:
        yield some


def _groups(notes: list[str], counter: ChatCounter) -> Iterator[list[str]]:
    """Notes on the parts to be made one, at least two at once."""
    lines = [json.dumps({"part": note}, ensure_ascii=False) for note in notes]
    packed = list(_packed((line, counter.text(line)) for line in lines))
    if len(packed) * 2 > len(notes):
        packed = [lines[at : at + 2] for at in range(0, len(lines), 2)]
    yield from packed


@cache
def _prompt() -> str:
    return files(__package__).joinpath("prompts/summarise.md").read_text("utf-8")
