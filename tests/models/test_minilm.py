"""The bundled embedder: what it promises of its vectors, its tokens, its files and its threads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import as_file, files
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemic import Embedder, Memory
from mnemic.errors import EmbedderUnavailable
from mnemic.models.minilm import MiniLM
from mnemic.testing import EmbedderContract

TEXTS = [
    "I moved to Lisbon last spring.",
    "Yes.",
    "The invoice INV-2031 was paid twice, please refund one of the two as soon as you can.",
    "She has lived in Portugal's capital since April.",
    "",
]
FIRST_VALUES = [0.1187, -0.0322, 0.0658, 0.0583, -0.0016, 0.0217, -0.0754, -0.0238]
ODD = [
    "\x00",
    "\ud800",
    "a\x00b\udfffc",
    "\ufffd",
    "👩‍👩‍👧",
    "你好世界",
    "\u202e",
    " \n\t ",
    "x" * 5000,
]


@pytest.fixture(scope="module")
def model() -> Iterator[MiniLM]:
    minilm = MiniLM(threads=2)
    yield minilm
    minilm.close()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    with as_file(files("mnemic.models").joinpath("weights", "all-MiniLM-L6-v2")) as folder:
        return shutil.copytree(folder, tmp_path / "weights")


_models: list[MiniLM] = []


def _shared() -> MiniLM:
    """One model for all examples of a property, which can't take a fixture of a narrower scope."""
    if not _models:
        _models.append(MiniLM(threads=2))
    return _models[0]


class TestContract(EmbedderContract):
    def embedder(self) -> Embedder:
        return _shared()


@settings(max_examples=20, deadline=None)
@given(texts=st.lists(st.text(max_size=80), min_size=1, max_size=40), pick=st.randoms())
def test_a_vector_is_the_same_whatever_its_batch_mates(texts: list[str], pick: Random) -> None:
    model = _shared()
    together = model.embed(texts)
    row = pick.randrange(len(texts))
    assert model.embed([texts[row]])[0].tobytes() == together[row].tobytes()


def test_a_vector_is_the_same_whatever_the_number_of_threads(model: MiniLM) -> None:
    texts = [f"{text} {i}" for i in range(12) for text in TEXTS]
    assert MiniLM(threads=1).embed(texts).tobytes() == model.embed(texts).tobytes()


def test_like_meanings_are_near(model: MiniLM) -> None:
    moved, _, invoice, lives, _ = model.embed(TEXTS)
    assert moved @ lives > 0.5 > moved @ invoice


def test_vectors_stay_those_the_name_stands_for(model: MiniLM) -> None:
    """Against the published fp32 model; int8 kernels differ from it in the third digit."""
    vector = model.embed(["I moved to Lisbon last spring."])[0]
    np.testing.assert_allclose(vector[:8], FIRST_VALUES, atol=0.02)


def test_no_texts_need_no_model(model: MiniLM) -> None:
    assert model.count_tokens([]) == []
    assert MiniLM(folder=Path("nowhere")).embed([]).shape == (0, 384)


@pytest.mark.parametrize("text", ["", *ODD], ids=ascii)
def test_odd_text_is_embedded_and_counted(model: MiniLM, text: str) -> None:
    assert np.linalg.norm(model.embed([text])[0]) == pytest.approx(1, abs=1e-5)
    assert model.count_tokens([text]) == [len(model.token_offsets(text))]


@given(text=st.text(st.characters(), max_size=60))
@settings(max_examples=60, deadline=None)
def test_offsets_are_ordered_and_within_the_text(text: str) -> None:
    offsets = _shared().token_offsets(text)
    assert all(0 <= start < stop <= len(text) for start, stop in offsets)
    assert offsets == sorted(offsets)


def test_offsets_name_the_words(model: MiniLM) -> None:
    text = "Ünïcode \x00 and 你好"
    words = [text[start:stop] for start, stop in model.token_offsets(text)]
    assert "".join(words) == "Ünïcodeand你好"
    assert words[-2:] == ["你", "好"]


def test_only_the_first_max_tokens_count(model: MiniLM) -> None:
    full, longer = "tea " * model.max_tokens, "tea " * model.max_tokens + "red " * 50
    assert model.count_tokens([full, longer]) == [256, 306]
    assert len(model.token_offsets(longer)) == 306
    whole, cut, shorter = model.embed([full, longer, full[4:]])
    assert (whole == cut).all()
    assert (whole != shorter).any()


def test_the_name_of_a_special_token_is_plain_text(model: MiniLM) -> None:
    assert model.count_tokens(["[SEP]", "[MASK]"]) > [1, 1]


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_an_altered_file_is_refused(weights: Path, name: str) -> None:
    content = bytearray((weights / name).read_bytes())
    content[len(content) // 2] ^= 1
    (weights / name).write_bytes(content)
    with pytest.raises(EmbedderUnavailable, match=name):
        MiniLM(folder=weights).embed(["hi"])


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "manifest.json"])
def test_a_missing_file_is_named(weights: Path, name: str) -> None:
    (weights / name).unlink()
    with pytest.raises(EmbedderUnavailable, match=name.removesuffix(".json")):
        MiniLM(folder=weights).count_tokens(["hi"])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": "other", "sha256": {}}'])
def test_a_broken_manifest_is_refused(weights: Path, content: str) -> None:
    (weights / "manifest.json").write_text(content)
    with pytest.raises(EmbedderUnavailable):
        MiniLM(folder=weights).embed(["hi"])


def test_no_threads_are_refused() -> None:
    with pytest.raises(ValueError, match="threads"):
        MiniLM(threads=0)


def test_many_threads_that_come_at_once_load_one_model() -> None:
    minilm = MiniLM(threads=2)
    with ThreadPoolExecutor(4) as callers:
        results = list(callers.map(lambda _: minilm.embed(TEXTS * 8).tobytes(), range(8)))
    assert len(set(results)) == 1
    minilm.close()


def test_a_closed_model_loads_again() -> None:
    minilm = MiniLM(threads=1)
    before = minilm.embed(TEXTS)
    minilm.close()
    minilm.close()
    assert (minilm.embed(TEXTS) == before).all()


def test_making_one_loads_nothing() -> None:
    code = (
        "import sys; from mnemic.models.minilm import MiniLM; MiniLM();"
        "assert not {'onnxruntime', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


FORK = """
import os, sys
from mnemic.models.minilm import MiniLM
texts = [f"text {i}" for i in range(40)]
model = MiniLM(threads=2)
before = model.embed(texts)
child = os.fork()
if child == 0:
    os._exit(0 if (model.embed(texts) == before).all() else 1)
assert (model.embed(texts) == before).all()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_can_embed() -> None:
    """In a process of its own, so that the fork copies neither pytest nor its threads."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=60)


def test_the_runtime_leaves_nothing_in_the_home_folder(tmp_path: Path) -> None:
    code = "from mnemic.models.minilm import MiniLM; MiniLM().embed(['hello'])"
    env = {key: value for key, value in os.environ.items() if not key.startswith(("ORT_", "XDG_"))}
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env | home)
    assert list(tmp_path.rglob("*")) == []


def test_a_long_message_is_kept_though_the_model_is_gone(weights: Path, tmp_path: Path) -> None:
    (weights / "model.onnx").unlink()
    broken = MiniLM(folder=weights)
    with Memory(tmp_path / "life.db", embedder=broken) as memory:
        ana = memory.user("ana")
        receipt = ana.remember("The harbour was full of boats. " * 80)
        assert receipt.state == "committed"
        assert "model.onnx" in str(receipt.error)
        found = ana.recall("harbour boats")
        assert "harbour" in found[0].memory.text
        assert "model.onnx" in str(found.error)
