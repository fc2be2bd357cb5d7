"""Instructions as lines of an export, and back: a line a name, with all its versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, get_args

from mnemic.errors import InputError
from mnemic.inputs import kind_of, read_time, shown
from mnemic.layers.procedural.reading import (
    read_examples,
    read_mode,
    read_procedure_name,
    read_reason,
    read_version,
    read_words,
)
from mnemic.layers.procedural.versions import new_version
from mnemic.memory import ScopedMemory
from mnemic.records import Procedure, ProcedureAuthor, Status
from mnemic.stores.procedures import HEADS, KeptVersion, Writing
from mnemic.stores.rows import from_id, require_id

_FIELDS = {
    "id",
    "version",
    "text",
    "mode",
    "status",
    "author",
    "reason",
    "examples",
    "recorded_at",
    "valid_from",
    "valid_to",
    "base",
    "pinned",
}


@dataclass(frozen=True, slots=True)
class NewProcedure:
    """An instruction that is to be written, with all its versions, oldest first."""

    name: str
    versions: tuple[KeptVersion, ...]


def procedure_lines(handle: ScopedMemory) -> Iterator[dict[str, Any]]:
    """Yield every instruction of a scope by name, as a line's fields."""
    for name in handle._core.procedure_rows.names(handle.scope):
        versions = handle.procedures.history(name)
        keys = [require_id(version.id) for version in versions]
        records = handle._core.store.find_records(handle.scope, keys)
        pinned = {key for key, record in records.items() if record.pinned}
        yield {
            "type": "procedure",
            "name": name,
            "versions": [
                _line(version, key in pinned) for version, key in zip(versions, keys, strict=True)
            ],
        }


def _line(version: Procedure, pinned: bool) -> dict[str, Any]:
    return {
        "id": version.id,
        "version": version.version,
        "text": version.text,
        "mode": version.mode,
        "status": version.status,
        "author": version.author,
        "reason": version.reason,
        "examples": [[example.asked, example.answered] for example in version.examples],
        "recorded_at": version.recorded_at.isoformat(),
        "valid_from": _time(version.valid_from),
        "valid_to": _time(version.valid_to),
        "base": version.base,
        "pinned": pinned,
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def read_procedure_line(fields: Mapping[str, Any], now: datetime) -> NewProcedure:
    """Read the fields of a line; raises `InputError`."""
    unknown = fields.keys() - {"name", "versions"}
    if unknown:
        raise InputError(
            f"unknown field {min(map(shown, unknown))}; an instruction has name, versions"
        )
    name, versions = read_procedure_name(fields.get("name")), fields.get("versions")
    if not isinstance(versions, list) or not versions:
        raise InputError("an instruction's versions are a list of at least one")
    read = tuple(_read_version(name, version, now) for version in versions)
    numbers = [version.number for version in read]
    if numbers != sorted(set(numbers)):
        raise InputError("an instruction's versions are numbered in their order")
    if sum(version.new.status in HEADS for version in read) > 1:
        raise InputError("one version of an instruction at most is in force, or disabled")
    return NewProcedure(name, read)


def _read_version(name: str, version: Any, now: datetime) -> KeptVersion:
    if not isinstance(version, dict):
        raise InputError(f"a version of an instruction is a mapping, not {kind_of(version)}")
    unknown = version.keys() - _FIELDS
    if unknown:
        raise InputError(
            f"unknown field {min(map(shown, unknown))}; a version has {', '.join(sorted(_FIELDS))}"
        )

    def moment(field: str) -> datetime | None:
        return None if version.get(field) is None else read_time(version[field], field)

    status = _one_of(version.get("status", "current"), get_args(Status), "status")
    author = _one_of(version.get("author", "user"), get_args(ProcedureAuthor), "author")
    base, id = version.get("base"), version.get("id")
    new = new_version(
        name,
        read_words(version.get("text")),
        read_mode(version.get("mode", "always")),
        author=author,
        reason=read_reason(version.get("reason")),
        examples=read_examples(version.get("examples") or ()),
    )
    base = None if base is None else read_version(base, "base")
    return KeptVersion(
        new=replace(new, status=status, base=base),
        number=read_version(version.get("version", 1), "version"),
        id=None if id is None else from_id(require_id(id)),
        recorded_at=moment("recorded_at") or now,
        valid_from=moment("valid_from"),
        valid_to=moment("valid_to"),
        pinned=version.get("pinned") is True,
    )


def _one_of(value: Any, known: tuple[Any, ...], what: str) -> Any:
    if not isinstance(value, str) or value not in known:
        raise InputError(f"{what} must be one of {', '.join(known)}, not {shown(value)}")
    return value


def write_procedure(writing: Writing, new: NewProcedure) -> bool:
    """Write an instruction whose name is free; False, and nothing is written, where it is in use."""
    if writing.versions(new.name):
        return False
    for version in new.versions:
        writing.restore(version)
    return True
