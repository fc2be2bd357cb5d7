"""`Procedures`: the instructions of one user, agent or shared space, and what may be done with them.

Which words are in force is decided in one transaction each, so that versions follow one another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mnemic.errors import InputError, VersionConflict
from mnemic.inputs import shown
from mnemic.layers.parts import Parts
from mnemic.layers.procedural import versions as rules
from mnemic.layers.procedural.learning import LEARNED, rewritten, with_rule
from mnemic.layers.procedural.markdown import Section, read_file
from mnemic.layers.procedural.reading import (
    check_size,
    read_examples,
    read_feedback,
    read_limit,
    read_mode,
    read_procedure_name,
    read_proposal,
    read_reason,
    read_version,
    read_words,
)
from mnemic.layers.procedural.relevance import most_relevant
from mnemic.layers.procedural.versions import head_of, new_version
from mnemic.layers.tending import erase, look_after
from mnemic.records import Erasure, Example, Loaded, Procedure, ProcedureMode, Scope
from mnemic.stores.procedures import NewVersion, Writing
from mnemic.timing import Timer

if TYPE_CHECKING:
    from mnemic.models.llm import LanguageModel

_PAGE = 200
RELEVANT = 5
Examples = Iterable[Example | tuple[str, str] | Mapping[str, str]]


class Procedures:
    """The instructions of one scope, by name. Nothing here reaches beyond it.

    Each name has versions, and at most one of them is in force, or disabled. What was in force stays
    readable, and `roll_back` brings it back. Every method that writes is one transaction: on disk when
    it returns, all of it or nothing; several processes may write at once.
    """

    def __init__(self, parts: Parts, scope: Scope) -> None:
        self._parts = parts
        self._scope = scope

    def remember(
        self,
        name: str,
        text: str,
        *,
        mode: ProcedureMode = "always",
        reason: str | None = None,
        examples: Examples = (),
    ) -> Procedure:
        """Put a new instruction in force; `mode` is `always`, or `relevant`: where a question calls for it.

        The same again changes nothing. Raises `InputError` where the name is in use for other words.
        """
        name, text, mode = read_procedure_name(name), read_words(text), read_mode(mode)
        reason, shown_how = read_reason(reason), read_examples(examples)
        with self._writing() as writing:
            head = writing.head(name)
            if head is not None:
                if (head.text, head.mode, head.examples) == (text, mode, shown_how):
                    return head
                raise InputError(
                    f"{self._scope} has an instruction {shown(name)} already (version"
                    f" {head.version}{', disabled' if head.status == 'retired' else ''});"
                    " revise it, or choose another name"
                )
            new = new_version(name, text, mode, reason=reason, examples=shown_how)
            return writing.add(new, "instructed")

    def revise(
        self,
        name: str,
        text: str,
        *,
        reason: str,
        mode: ProcedureMode | None = None,
        examples: Examples | None = None,
        expected: int | None = None,
    ) -> Procedure:
        """Put other words in force; what isn't given stays. One that is disabled stays disabled.

        `expected` is the version that you have read: `VersionConflict` where another is in force by now.
        The same words again change nothing.
        """
        name, text, why = (
            read_procedure_name(name),
            read_words(text),
            read_reason(reason, required=True),
        )
        mode = None if mode is None else read_mode(mode)
        shown_how = None if examples is None else read_examples(examples)
        expected = None if expected is None else read_version(expected, "expected")
        with self._writing() as writing:
            head = self._head(writing, name)
            mode = head.mode if mode is None else mode
            shown_how = head.examples if shown_how is None else shown_how
            if (head.text, head.mode, head.examples) == (text, mode, shown_how):
                return head
            if expected is not None and expected != head.version:
                raise VersionConflict(
                    f"version {head.version} of {shown(name)} is in force, and not {expected} as"
                    " expected; read it again"
                )
            new = new_version(name, text, mode, reason=why, examples=shown_how)
            return rules.replace_head(writing, head, new, "revised")

    def roll_back(self, name: str, to: int, *, reason: str | None = None) -> Procedure:
        """Put the words of an older version in force again, as a new version."""
        name, to = read_procedure_name(name), read_version(to, "to")
        reason = read_reason(reason) or f"rolled back to version {to}"
        with self._writing() as writing:
            versions = self._versions(writing, name)
            old = next((version for version in versions if version.version == to), None)
            if old is None:
                raise InputError(f"{shown(name)} has no version {to}; `history` lists them")
            if old.status in ("proposed", "rejected", "merged"):
                raise InputError(
                    f"version {to} of {shown(name)} was never in force; approve it first"
                )
            head = head_of(versions)
            if head is not None and head.version == to:
                return head
            new = new_version(name, old.text, old.mode, reason=reason, examples=old.examples)
            return rules.replace_head(writing, head, new, "rolled back")

    def enable(self, name: str) -> Procedure:
        """Put a disabled instruction in force again."""
        with self._writing() as writing:
            head = self._head(writing, read_procedure_name(name))
            return writing.settle(head, "current", "enabled") if head.status == "retired" else head

    def disable(self, name: str) -> Procedure:
        """Take an instruction out of force until it is enabled again; its words stay."""
        with self._writing() as writing:
            head = self._head(writing, read_procedure_name(name))
            return writing.settle(head, "retired", "disabled") if head.status == "current" else head

    def get(self, name: str, version: int | None = None) -> Procedure | None:
        """The version in force, or disabled, or the one of a number; None where there is none."""
        name = read_procedure_name(name)
        number = None if version is None else read_version(version, "version")
        return self._parts.procedure_rows.find(self._scope, name, number)

    def history(self, name: str) -> list[Procedure]:
        """Every version of an instruction, oldest first, proposals too; empty for an unknown name."""
        return self._parts.procedure_rows.versions(self._scope, read_procedure_name(name))

    def iter_procedures(self) -> Iterator[Procedure]:
        """Every instruction that is in force or disabled, by name, read a page at a time."""
        rows, after = self._parts.procedure_rows, ""
        while page := rows.head_page(self._scope, after, _PAGE):
            yield from page
            after = page[-1].name

    def load(self, path: str | os.PathLike[str]) -> Loaded:
        """Take over the instructions of a Markdown file: each `## heading` names one.

        What says the same is left alone, so that a file may be loaded at every start; other words are a
        revision, whose reason is the file. A name that the file doesn't have stays as it is. Raises
        `InputError`, naming the line, and then nothing was changed.
        """
        sections = read_file(path)
        file = Path(path).name
        made: list[Procedure] = []
        revised: list[Procedure] = []
        unchanged: list[Procedure] = []
        with self._writing() as writing:
            for section in sections:
                head = writing.head(section.name)
                if head is None:
                    made.append(writing.add(_of_file(section, file, head), "instructed"))
                elif (head.text, head.mode) == (section.text, section.mode):
                    unchanged.append(head)
                else:
                    new = _of_file(section, file, head)
                    revised.append(rules.replace_head(writing, head, new, "revised"))
        return Loaded(tuple(made), tuple(revised), tuple(unchanged))

    def active(self, question: str | None = None, *, limit: int = RELEVANT) -> list[Procedure]:
        """What a prompt should hold: those that always apply, by name, then those that a question needs.

        The latter come best first, at most `limit` of them, and none that doesn't stand out from what
        is of no concern to the question. Without a question there are none of them.
        """
        limit = read_limit(limit)
        if question is not None and not isinstance(question, str):
            raise InputError(f"the question is a string or None, not {shown(question)}")
        in_force = self._parts.procedure_rows.in_force(self._scope)
        always = [each for each in in_force if each.mode == "always"]
        relevant = [each for each in in_force if each.mode == "relevant"]
        if question is None or not relevant:
            return always
        reader = self._parts.reader()
        return always + most_relevant(reader, self._scope, question, relevant, limit)

    def learn(
        self,
        feedback: str,
        *,
        name: str = LEARNED,
        model: str | LanguageModel | None = None,
        approve: bool = False,
        source: str = "user",
    ) -> Procedure:
        """Propose a revision that does what some feedback asks for; it waits for approval.

        Without a model the words of the feedback become one more rule of the instruction, or the first
        of a new one. A model (its name, or any `LanguageModel`) rewrites it; where that fails, or somebody
        revised it meanwhile, the words are added all the same, and `author` is `feedback`, not `model`.
        With `approve` the revision is in force at once. Only what the user or the operator said, as
        `source` tells, is learned. The same feedback again changes nothing.
        """
        feedback, name = read_feedback(feedback, source), read_procedure_name(name)
        versions = self.history(name)
        before, text = head_of(versions), None
        if model is not None and rules.learned(versions, feedback) is None:
            text = _rewritten(model, name, before, feedback)
        with self._writing() as writing:
            versions = writing.versions(name)
            head, known = head_of(versions), rules.learned(versions, feedback)
            if known is not None:
                proposed = known.status == "proposed"
                return rules.approve(writing, known) if approve and proposed else known
            if head != before:
                text = None
            new = new_version(
                name,
                check_size(_added(head, feedback)) if text is None else text,
                head.mode if head else "always",
                author="feedback" if text is None else "model",
                reason=feedback,
                examples=head.examples if head else (),
            )
            if approve:
                return rules.replace_head(writing, head, new, "learned")
            return rules.propose(writing, head, new)

    def proposals(self) -> list[Procedure]:
        """The revisions that wait for approval, oldest first; `base` is what each was made from."""
        return self._parts.procedure_rows.proposed(self._scope)

    def approve(self, proposal: str | Procedure) -> Procedure:
        """Put a proposal in force: its id, or the name of an instruction that has one.

        Where what it was made from is no longer in force, the words of feedback are added to what is,
        as a new version; what a model wrote then raises `VersionConflict`: it doesn't know the newer words.
        """
        return self._decide(proposal, rules.approve)

    def reject(self, proposal: str | Procedure) -> Procedure:
        """Turn a proposal down: its id, or the name of an instruction that has one."""
        return self._decide(proposal, lambda w, p: w.settle(p, "rejected", "rejected"))

    def forget(self, name: str) -> Erasure:
        """Erase every version of an instruction, its words, reasons and examples, from the files too."""
        name, parts, scope = read_procedure_name(name), self._parts, self._scope
        return erase(parts, scope, lambda: parts.procedure_rows.erase(scope, name))

    @contextmanager
    def _writing(self) -> Iterator[Writing]:
        """One transaction; the vectors of what it wrote follow it, now or by the job that it left."""
        writer = self._parts.writer()
        with self._parts.procedure_rows.writing(self._scope, writer.known) as writing:
            yield writing
        error = writer.embed(self._scope, writing.done, Timer())
        look_after(self._parts, heal=error is None)

    def _decide(
        self, proposal: str | Procedure, how: Callable[[Writing, Procedure], Procedure]
    ) -> Procedure:
        id, name = read_proposal(proposal)
        with self._writing() as writing:
            return how(writing, rules.find_proposal(writing, self._scope, id, name))

    def _versions(self, writing: Writing, name: str) -> list[Procedure]:
        versions = writing.versions(name)
        if not versions:
            raise InputError(
                f"{self._scope} has no instruction {shown(name)}; `iter_procedures` lists what there is"
            )
        return versions

    def _head(self, writing: Writing, name: str) -> Procedure:
        head = writing.head(name)
        if head is None:
            self._versions(writing, name)
            raise InputError(
                f"no version of {shown(name)} is in force; approve a proposal, roll back to a version"
                " that was, or remember it anew"
            )
        return head


def _of_file(section: Section, file: str, head: Procedure | None) -> NewVersion:
    reason = section.reason or f"loaded from {file}"
    examples = () if head is None else head.examples
    return new_version(
        section.name, section.text, section.mode, author="file", reason=reason, examples=examples
    )


def _rewritten(
    model: str | LanguageModel, name: str, before: Procedure | None, feedback: str
) -> str | None:
    from mnemic.models.llm import choose_model

    chosen = choose_model(model)
    try:
        return rewritten(chosen, name, before.text if before else None, feedback)
    finally:
        close = getattr(chosen, "close", None)
        if chosen is not model and close is not None:
            close()


def _added(head: Procedure | None, feedback: str) -> str:
    return with_rule(None if head is None else head.text, feedback)
