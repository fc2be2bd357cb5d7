"""Spoilt files: an import takes them or says what is wrong, and keeps just what it says it kept."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemic.errors import InputError, MnemicError
from mnemic.memory import Memory
from mnemic.transfer import files, importing
from mnemic.transfer.importing import ImportReport, import_file
from tests.fakes import new_folder, open_memory
from tests.mutations import MAKERS, make_file


def take(memory: Memory, file: Path, form: str) -> MnemicError | None:
    """Import a file; checks that the store holds what was reported, and nothing else."""
    told: list[int] = []

    def tell(report: ImportReport) -> None:
        told.append(report.messages)

    before = memory.operator.stats().messages
    refused = None
    try:
        report = import_file(memory, file, form, fallback_user="ana", progress=tell)
        assert report.messages == (told[-1] if told else 0)
    except MnemicError as error:
        refused = error
        kept = re.search(r"\(([\d,]+) messages before it are kept", str(error))
        said = int(kept.group(1).replace(",", "")) if kept else 0
        # What was there before counts as kept, too, where the file says it again.
        assert said >= (told[-1] if told else 0)
    assert memory.operator.stats().messages - before == (told[-1] if told else 0)
    assert [f.says for f in memory.operator.check() if not f.ok] == []
    return refused


@pytest.mark.parametrize("form", MAKERS)
@given(seed=st.integers(0, 2**32))
def test_a_spoilt_file_is_taken_or_refused(form: str, seed: int) -> None:
    with new_folder() as folder, open_memory(folder / "memory.db") as memory:
        file = folder / "file.jsonl"
        file.write_bytes(make_file(form, Random(seed)))
        take(memory, file, form)


@pytest.mark.parametrize("form", MAKERS)
def test_a_file_as_it_should_be_is_taken(memory: Memory, tmp_path: Path, form: str) -> None:
    file = tmp_path / "file.jsonl"
    file.write_text(MAKERS[form](Random(1)), "utf-8")
    assert take(memory, file, form) is None
    assert memory.operator.stats().messages > 0


def test_what_an_import_kept_is_reported_and_the_mended_file_completes_it(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH", 4)
    lines = [f'{{"id": "m{n}", "content": "thing {n}"}}' for n in range(20)]
    file = tmp_path / "file.jsonl"
    file.write_text(
        "\n".join([*lines[:10], '{"id": "m10", "role": "robot", "content": "x"}', *lines[11:]])
    )
    refused = take(memory, file, "jsonl")
    assert "element 11" in str(refused)
    assert "(8 messages before it are kept; run it again once this is mended)" in str(refused)
    file.write_text("\n".join(lines))
    report = import_file(memory, file, fallback_user="ana")
    assert (report.messages, report.there_already) == (12, 8)


def test_a_bomb_is_refused_before_it_fills_the_memory(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_ELEMENT", 8 << 20)
    bomb = tmp_path / "bomb.gz"
    read = files._Stream._more
    most = 0

    def watched(stream: files._Stream) -> bool:
        nonlocal most
        more = read(stream)
        most = max(most, len(stream.text))
        return more

    monkeypatch.setattr(files._Stream, "_more", watched)
    for content in (b'{"content": "' + b"x" * (200 << 20), b"[" + b" " * (200 << 20)):
        bomb.write_bytes(gzip.compress(content, 1))
        with pytest.raises(InputError, match="cut off"):
            import_file(memory, bomb, fallback_user="ana")
        assert most <= 32 << 20
