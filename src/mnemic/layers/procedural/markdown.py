"""Files of instructions: Markdown such as AGENTS.md, an instruction a `## heading`. Nothing is left out.

What stands before the first `##` is an instruction too, under the `# title`, or else the file's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnemic.errors import InputError
from mnemic.inputs import read_path, shown
from mnemic.layers.procedural.reading import (
    read_mode,
    read_procedure_name,
    read_reason,
    read_words,
)
from mnemic.records import ProcedureMode

MAX_BYTES = 1_000_000
MAX_LOADED = 1_000

_HEADING = re.compile(r" {0,3}(#{1,2})(?![^ \t])(.*)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
# Only directly under a heading.
_FRONT = re.compile(r"(mode|reason)[ \t]*:[ \t]*(.*)", re.IGNORECASE)


@dataclass(slots=True)
class Section:
    """An instruction of a file. `line` is where its heading stands, counted from 1."""

    name: str
    line: int
    lines: list[str] = field(default_factory=list)
    mode: ProcedureMode = "always"
    reason: str | None = None

    @property
    def text(self) -> str:
        """Its words."""
        return "\n".join(self.lines).strip("\n").rstrip()


def read_file(path: Any) -> list[Section]:
    """Read a file of instructions; `InputError` names the line where it can't be taken."""
    file = Path(read_path(path, "a file of instructions"))
    try:
        if not file.is_file():
            raise InputError(f"{shown(str(file))} is no file; name a Markdown file of instructions")
        with file.open("rb") as handle:
            raw = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"can't read {shown(str(file))}: {error.strerror or error}") from None
    if len(raw) > MAX_BYTES:
        raise InputError(f"{shown(file.name)} is larger than {MAX_BYTES:,} bytes; make it several")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(f"{shown(file.name)}, line {line}: this is not UTF-8 text") from None
    try:
        return parse(text, file.stem)
    except InputError as error:
        raise InputError(f"{shown(file.name)}, {error}") from None


def parse(text: str, fallback: str) -> list[Section]:
    r"""The instructions of a Markdown text; `fallback` names what stands before the first heading.

    >>> [(s.name, s.mode, s.text) for s in parse("## tone\nmode: relevant\n\nBe kind.", "file")]
    [('tone', 'relevant', 'Be kind.')]
    """
    sections = _cut(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), fallback)
    if not sections[0].text:
        del sections[0]
    if not sections:
        raise InputError("line 1: there is no instruction; write one a heading: ## its name")
    if len(sections) > MAX_LOADED:
        raise InputError(f"line {sections[MAX_LOADED].line}: more than {MAX_LOADED:,} instructions")
    seen: dict[str, int] = {}
    for section in sections:
        try:
            section.name = read_procedure_name(section.name)
            section.lines = read_words(section.text).split("\n")
        except InputError as error:
            raise InputError(f"line {section.line}: {error}") from None
        if section.name in seen:
            raise InputError(
                f"line {section.line}: {shown(section.name)} is a heading in line"
                f" {seen[section.name]} already; give one of them another name"
            )
        seen[section.name] = section.line
    return sections


def _cut(lines: list[str], fallback: str) -> list[Section]:
    """The sections by heading, what stands before them first."""
    sections = [Section(fallback, 1)]
    fence: str | None = None
    front, begun = False, False
    for number, line in enumerate(lines, 1):
        level, name = (0, "") if fence else _heading(line)
        if level == 1 and not begun:
            sections[0].name, sections[0].line = name or fallback, number
            begun = True
            continue
        begun = begun or bool(line.strip())
        if level == 2:
            sections.append(Section(name, number))
            front = True
            continue
        found = _FRONT.fullmatch(line) if front else None
        if found is not None:
            _take(sections[-1], found, number)
            continue
        front = False
        fence = _fence_after(fence, line)
        sections[-1].lines.append(line)
    return sections


def _heading(line: str) -> tuple[int, str]:
    """The level of a heading, 1 or 2, and what it says; 0 for any other line."""
    found = _HEADING.fullmatch(line)
    if found is None:
        return 0, ""
    name = found[2].strip(" \t")
    bare = name.rstrip("#")  # a heading may be closed by marks, too
    return len(found[1]), (bare.rstrip(" \t") if bare == "" or bare[-1] in " \t" else name)


def _take(section: Section, found: re.Match[str], number: int) -> None:
    """Take a front line such as `mode: relevant`."""
    key, value = found[1].lower(), found[2].strip()
    try:
        if key == "mode":
            section.mode = read_mode(value.lower())
        else:
            section.reason = read_reason(value, required=True)
    except InputError as error:
        raise InputError(f"line {number}: {error}") from None


def _fence_after(fence: str | None, line: str) -> str | None:
    """The mark of the code block that goes on after a line: in one, a `##` is no heading."""
    found = _FENCE.fullmatch(line)
    if found is None:
        return fence
    mark, rest = found[1], found[2]
    if fence is None:
        return None if mark[0] == "`" and "`" in rest else mark
    closes = mark[0] == fence[0] and len(mark) >= len(fence) and not rest.strip()
    return None if closes else fence
