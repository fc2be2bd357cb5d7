"""Answers by a language model, with memory and without, and whether they are right.

A judge says whether they are, where there is one; else the right answer's words have to stand in the
reply in one piece. A model that fails is written down as its error, and ends nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from mnemic.errors import InputError, ModelError
from mnemic.evaluation import measures
from mnemic.evaluation.datasets import Conversation, Question
from mnemic.models.llm import LanguageModel, choose_model
from mnemic.settings import from_environment

T = TypeVar("T")
Row = dict[str, Any]

READ_MOST = 100  # questions that are read unless told otherwise
ANSWER_TOKENS, VERDICT_TOKENS = 200, 10
MOST_CHARS = 2_000  # of a reply, kept and judged: a server may not keep to the tokens


@dataclass(frozen=True, slots=True)
class Models:
    """Who reads and who judges, by name and URL: plain, so that each process opens its own.

    A key is none of them: it is read from the environment where a model is opened.
    """

    reader: str
    reader_url: str | None = None
    judge: str | None = None
    judge_url: str | None = None

    def conditions(self) -> Row:
        """What answers depend on. Of URLs a checksum, since one may hold a password."""
        prompts = _prompt("read") + _prompt("judge")
        return {
            "reader": [self.reader, _checksum(self.reader_url)],
            "judge": [self.judge, _checksum(self.judge_url)],
            "prompts": _checksum(prompts),
        }


def choose_models(
    reader: str | None = None,
    reader_url: str | None = None,
    judge: str | None = None,
    judge_url: str | None = None,
) -> Models | None:
    """Who reads and who judges, as `choose_model` understands it; None where no reader is asked for.

    What isn't given is read from MNEMIC_MODEL and MNEMIC_MODEL_URL. Raises `InputError`, or `MissingExtra`.
    """
    judged = judge is not None or judge_url is not None
    if reader is None and reader_url is None:
        if judged:
            raise InputError("a judge judges what a reader answers; name one with --reader")
        return None
    known = from_environment()
    return Models(
        choose_model(reader, reader_url).name,
        known.model_url if reader_url is None else reader_url,
        choose_model(judge, judge_url).name if judged else None,
        (known.model_url if judge_url is None else judge_url) if judged else None,
    )


class Reading:
    """A reader, and a judge where there is one."""

    def __init__(self, reader: LanguageModel, judge: LanguageModel | None = None) -> None:
        self._reader = reader
        self._judge = judge

    @classmethod
    def open(cls, models: Models) -> Reading:
        """Open models; nothing is asked of them yet."""
        reader = choose_model(models.reader, models.reader_url)
        if models.judge is None:
            return cls(reader)
        return cls(reader, choose_model(models.judge, models.judge_url))

    def compare(self, question: Question, context: str) -> Row:
        """The same question read with a context and without any, and by whom."""
        return {
            "reader": self._reader.name,
            "judge": None if self._judge is None else self._judge.name,
            "with": self.read(question, context),
            "without": self.read(question, ""),
        }

    def read(self, question: Question, context: str) -> Row:
        """`answer`, and `right`; in place of what a model failed to say, its `error`."""
        row: Row = {}
        try:
            prompt = _asked(question, context)
            said = self._reader.complete(_prompt("read"), prompt, max_tokens=ANSWER_TOKENS)
            row["answer"] = said[:MOST_CHARS]
            row["right"] = self._right(question, row["answer"])
        except ModelError as error:
            row["error"] = str(error)
        return row

    def close(self) -> None:
        """Close the connections to the models."""
        for model in (self._reader, self._judge):
            close = getattr(model, "close", None)
            if close is not None:
                close()

    def _right(self, question: Question, reply: str) -> bool:
        if self._judge is None:
            return measures.answered(question.answer, reply)
        given = {"question": question.text, "right answer": question.answer, "reply": reply}
        text = json.dumps(given, ensure_ascii=False)
        said = self._judge.complete(_prompt("judge"), text, max_tokens=VERDICT_TOKENS)
        verdict = measures.folded(said).partition(" ")[0]
        if verdict not in ("yes", "no"):
            raise ModelError(f"the judge {self._judge.name} said neither yes nor no")
        return verdict == "yes"


def judged_by(read: Mapping[str, Any]) -> str:
    """Who said which answers are right, in words."""
    return f"judged by {read['judge']}" if read["judge"] else "by its words, no judge"


def spread(talks: Sequence[Conversation], most: int) -> list[frozenset[int]]:
    """The places of the questions to read in each conversation: `most` in all, evenly over them.

    Only those that count and whose answer is known. What a conversation lacks, the others get.
    """
    able = [
        [at for at, q in enumerate(talk.questions) if q.counts and measures.folded(q.answer)]
        for talk in talks
    ]
    shares = [0] * len(talks)
    while most > 0:
        more = _evenly([n for n, some in enumerate(able) if shares[n] < len(some)], most)
        if not more:
            break
        for number in more:
            shares[number] += 1
        most -= len(more)
    return [frozenset(_evenly(some, share)) for some, share in zip(able, shares, strict=True)]


def _evenly(some: Sequence[T], most: int) -> list[T]:
    count = min(most, len(some))
    return [some[at * len(some) // count] for at in range(count)]


def _asked(question: Question, context: str) -> str:
    """What the reader is handed."""
    day = "" if question.at is None else f"Asked on: {question.at:%Y-%m-%d}\n"
    return f"{context.strip()}\n\n{day}Question: {question.text}".lstrip()


@cache
def _prompt(name: str) -> str:
    return files(__package__).joinpath(f"prompts/{name}.md").read_text("utf-8").strip()


def _checksum(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()[:16]
