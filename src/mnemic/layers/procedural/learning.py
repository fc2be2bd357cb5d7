"""Learning from feedback: as one more rule, word for word, or as a rewriting by a model.

A model that fails, says nothing, or says too much is left out: the words of the feedback are never lost.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING

from mnemic.errors import InputError, ModelError
from mnemic.layers.procedural.reading import read_words

if TYPE_CHECKING:
    from mnemic.models.llm import LanguageModel

# The instruction that takes feedback which names none.
LEARNED = "learned"
# A rewriting may have a token for so many characters of what it is made of, and this many more.
CHARACTERS, MORE_TOKENS = 2, 256
_FENCED = re.compile(r"```[\w-]*\n(.*?)\n?```", re.DOTALL)
# What models say when they have nothing to say.
_NOTHING = {"none", "null", "n/a", "no change", "no changes", "unchanged", "nothing"}


def with_rule(text: str | None, feedback: str) -> str:
    """An instruction with the words of some feedback as its last rule.

    >>> print(with_rule("- Be brief.", "Never use emoji."))
    - Be brief.
    - Never use emoji.
    """
    rule = as_rule(feedback)
    if not text:
        return rule
    # The lines of an item after its first are indented.
    last = next((line for line in reversed(text.split("\n")) if not line.startswith("  ")), "")
    return f"{text}\n{rule}" if last.startswith(("- ", "* ")) else f"{text}\n\n{rule}"


def as_rule(feedback: str) -> str:
    """The words of some feedback as an item of a list."""
    first, *more = feedback.split("\n")
    return "\n".join([f"- {first}", *(f"  {line}" if line else "" for line in more)])


def has_rule(text: str, feedback: str) -> bool:
    """Whether an instruction has these words for a rule already."""
    return f"\n{as_rule(feedback)}\n" in f"\n{text}\n"


def rewritten(model: LanguageModel, name: str, text: str | None, feedback: str) -> str | None:
    """The instruction as a model rewrites it; None where what it says can't be used."""
    quoted = {"name": name, "instruction": text, "feedback": feedback}
    lines = (f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in quoted.items())
    most = (len(text or "") + len(feedback)) // CHARACTERS + MORE_TOKENS
    try:
        said = model.complete(_prompt(), "\n".join(lines), max_tokens=most)
    except ModelError:
        return None
    if not isinstance(said, str):
        return None
    words = _bare(said, name)
    if words == text or words.rstrip(".!").casefold() in _NOTHING:
        return None
    try:
        return read_words(words)
    except InputError:
        return None


def _bare(said: str, name: str) -> str:
    r"""What a model says without what it was asked to leave out: a fence, quotation marks, a heading.

    >>> _bare('"Be brief."', "tone"), _bare("## Tone\n\nBe brief.", "tone")
    ('Be brief.', 'Be brief.')
    """
    words = said.strip()
    fenced = _FENCED.fullmatch(words)
    if fenced is not None:
        words = fenced[1].strip()
    with suppress(ValueError, RecursionError):
        unquoted = json.loads(words) if words.startswith('"') else words
        words = unquoted.strip() if isinstance(unquoted, str) else words
    first, _, rest = words.partition("\n")
    heading = first.startswith("#") and first.strip("# ").casefold() == name.casefold()
    return rest.strip() if heading else words


def _prompt() -> str:
    return files(__package__).joinpath("prompts/learn.md").read_text("utf-8")
