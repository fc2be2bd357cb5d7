"""Checks of what instructions are made from: names, words, reasons, examples, feedback. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, get_args

from mnemic.errors import InputError
from mnemic.inputs import kind_of, read_name, read_text, shown
from mnemic.records import Example, Procedure, ProcedureMode

MAX_NAME = 200
MAX_TEXT = 20_000
MAX_REASON = 4_000
MAX_EXAMPLES = 100
MAX_VERSION = 2**31 - 1
MAX_LIMIT = 1_000
# Whose words may become instructions. What a tool returned, or a document says, is data.
TRUSTED = ("user", "operator")


def read_procedure_name(name: Any) -> str:
    """Check an instruction's name: one line that can be a heading; blanks around it don't count."""
    read = read_name(name, "an instruction's name", MAX_NAME).strip()
    if read.splitlines() != [read]:
        raise InputError(f"an instruction's name is one line, not {shown(read)}")
    return read


def read_words(text: Any) -> str:
    """Check an instruction's words; blank lines around them are left out."""
    if not isinstance(text, str):
        raise InputError(f"an instruction is a string, not {kind_of(text)}")
    if not text.strip():
        raise InputError("the instruction is empty or blank; say what to do")
    return check_size(read_text(text, "the instruction").strip("\r\n").rstrip())


def check_size(text: str) -> str:
    """Refuse an instruction that is longer than one should be."""
    if len(text) > MAX_TEXT:
        raise InputError(
            f"the instruction has {len(text):,} characters; at most {MAX_TEXT:,} are taken:"
            " make it several"
        )
    return text


def read_mode(mode: Any) -> ProcedureMode:
    """Check when an instruction is shown."""
    if not isinstance(mode, str) or mode not in get_args(ProcedureMode):
        raise InputError(f"mode must be 'always' or 'relevant', not {shown(mode)}")
    read: ProcedureMode = "always" if mode == "always" else "relevant"
    return read


def read_reason(reason: Any, *, required: bool = False) -> str | None:
    """Check why a version was made."""
    if reason is None and not required:
        return None
    if not isinstance(reason, str) or not reason.strip():
        raise InputError(f"reason says why, as a text that isn't blank; not {shown(reason)}")
    return read_text(reason.strip(), "the reason", MAX_REASON)


def read_feedback(feedback: Any, source: Any) -> str:
    """Check what is to be learned, and that someone said it whose words may become instructions."""
    if not isinstance(feedback, str) or not feedback.strip():
        raise InputError(f"feedback is a text that isn't blank, not {shown(feedback)}")
    if source not in TRUSTED:
        raise InputError(
            f"nothing is learned from source {shown(source)}: what tools and documents say is data;"
            f" only feedback of the {' or the '.join(TRUSTED)} becomes an instruction"
        )
    return read_text(feedback.strip(), "the feedback", MAX_REASON)


def read_version(version: Any, what: str) -> int:
    """Check the number of a version."""
    if isinstance(version, bool) or not isinstance(version, int):
        raise InputError(f"{what} is a version's number, not {shown(version)}")
    if not 1 <= version <= MAX_VERSION:
        raise InputError(f"{what} is a version's number, from 1 on, not {shown(version)}")
    return version


def read_proposal(proposal: Any) -> tuple[str, str | None]:
    """What may be a proposal's id, and what may be the name of an instruction that has one."""
    if isinstance(proposal, Procedure):
        return proposal.id, None
    name = read_procedure_name(proposal)
    return name, name


def read_limit(limit: Any) -> int:
    """Check how many relevant instructions may be shown."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit <= MAX_LIMIT:
        raise InputError(f"limit is a whole number from 0 to {MAX_LIMIT:,}, not {shown(limit)}")
    return limit


def read_examples(examples: Any) -> tuple[Example, ...]:
    """Check examples: `Example`s, pairs, or mappings with `user` and `assistant`."""
    refused = "examples are a list of pairs (what was asked, the answer as it should be)"
    if isinstance(examples, str | bytes | Mapping) or not isinstance(examples, Iterable):
        raise InputError(f"{refused}, not {kind_of(examples)}")
    given = list(islice(examples, MAX_EXAMPLES + 1))
    if len(given) > MAX_EXAMPLES:
        raise InputError(f"at most {MAX_EXAMPLES} examples go with an instruction")
    return tuple(_read_example(example, number) for number, example in enumerate(given, 1))


def _read_example(example: Any, number: int) -> Example:
    if isinstance(example, Example):
        pair = [example.asked, example.answered]
    elif isinstance(example, Mapping) and set(example) == {"user", "assistant"}:
        pair = [example["user"], example["assistant"]]
    elif isinstance(example, list | tuple) and len(example) == 2:
        pair = list(example)
    else:
        raise InputError(
            f"example {number} must be a pair, or have 'user' and 'assistant'; not {shown(example)}"
        )
    for side, text in zip(("asks", "answers"), pair, strict=True):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"example {number} {side} {shown(text)}; both sides are texts")
        read_text(text, f"example {number}", MAX_TEXT)
    return Example(*pair)
