"""The embedder behind a URL, against a real llama.cpp server with a real model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mnemic import EmbedderMismatch, InputError, Memory
from mnemic.models.embedder import Embedder
from mnemic.models.minilm import MiniLM
from mnemic.models.remote import BATCH, RemoteEmbedder
from mnemic.settings import Settings
from tests.server.conftest import MODEL, TEXT_TOKENS, ModelServer

pytestmark = [pytest.mark.server, pytest.mark.long]

NAME = f"openai-compatible/{MODEL}"
SAID = [
    "I moved to Lisbon in May.",
    "My daughter plays the violin.",
    "The old car was sold last week.",
]
QUESTION = "Which instrument does the daughter play?"


@contextmanager
def opened(path: Path, embedder: Embedder) -> Iterator[Memory]:
    """A store whose embedder is the one given, whatever the environment says."""
    with Memory(path, embedder=embedder, settings=Settings()) as memory:
        yield memory


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[httpx.Client]]:
    """The HTTP clients that a test makes; closed after it."""
    made: list[httpx.Client] = []

    class Client(httpx.Client):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            made.append(self)

    monkeypatch.setattr(httpx, "Client", Client)
    yield made
    for client in made:
        client.close()


def answers(memory: Memory) -> list[tuple[str, float]]:
    """What the question finds, by meaning and words, not by words alone."""
    found = memory.user("ana").recall(QUESTION)
    assert found.error is None
    assert any(hit.channels["meaning"] for hit in found)
    return [(hit.memory.text, hit.score) for hit in found]


def without_vector(memory: Memory) -> int:
    return sum(scope.without_vector for scope in memory.operator.stats().scopes)


def test_vectors_have_the_servers_dimensions_and_unit_length(
    model_server: ModelServer, embedder: RemoteEmbedder
) -> None:
    vectors = embedder.embed(SAID)
    assert vectors.shape == (len(SAID), model_server.dimensions)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert embedder.dimensions == model_server.dimensions


def test_dimensions_are_asked_for_where_nothing_was_embedded_yet(
    model_server: ModelServer, embedder: RemoteEmbedder
) -> None:
    assert embedder.dimensions == model_server.dimensions
    assert embedder.embed([]).shape == (0, model_server.dimensions)


def test_vectors_come_in_the_order_of_the_texts(embedder: RemoteEmbedder) -> None:
    texts = [f"{n} {SAID[n % 3]}" for n in range(BATCH + 3)]
    together = embedder.embed(texts)
    chosen = [0, 1, BATCH - 1, BATCH, BATCH + 2]
    alone = np.concatenate([embedder.embed([texts[n]]) for n in chosen])
    # Each vector alone is nearest to its own place among all.
    assert np.argmax(alone @ together.T, axis=1).tolist() == chosen
    assert np.allclose(alone, together[chosen], atol=1e-3)


def test_the_same_text_has_the_same_vector(embedder: RemoteEmbedder) -> None:
    first, other, again = embedder.embed([SAID[0], SAID[1], SAID[0]])
    assert float(first @ again) > 0.9999
    assert float(first @ other) < 0.99
    assert float(first @ embedder.embed([SAID[0]])[0]) > 0.9999


def test_a_passage_of_many_tokens_fits(embedder: RemoteEmbedder, tmp_path: Path) -> None:
    with opened(tmp_path / "life.db", embedder) as memory:
        # 938 and 600 tokens in 600 characters, where English has some 130.
        receipt = memory.user("ana").remember(["日本語の文章です。" * 67, "7391" * 150])
        assert receipt.error is None
        assert receipt.state == "indexed"
        assert without_vector(memory) == 0


def test_a_text_too_long_for_the_server_is_embedded_by_its_beginning(
    embedder: RemoteEmbedder,
) -> None:
    long = "word " * (TEXT_TOKENS + 100)
    vectors = embedder.embed([SAID[0], long, SAID[1]])
    assert float(vectors[1] @ embedder.embed([long[: len(long) // 2]])[0]) > 0.9999
    assert float(vectors[0] @ embedder.embed([SAID[0]])[0]) > 0.9999


def test_a_memory_remembers_and_recalls(embedder: RemoteEmbedder, tmp_path: Path) -> None:
    path = tmp_path / "life.db"
    with opened(path, embedder) as memory:
        receipt = memory.user("ana").remember(SAID)
        assert (receipt.state, receipt.made, receipt.error) == ("indexed", len(SAID), None)
        before = answers(memory)
        assert before[0][0] == SAID[1]
        stats = memory.operator.stats()
        assert (stats.embedder, stats.memories) == (NAME, len(SAID))
        assert without_vector(memory) == 0
        assert all(finding.ok for finding in memory.operator.check())
    with opened(path, embedder) as memory:
        assert answers(memory) == before


def test_a_store_moves_over_and_back(embedder: RemoteEmbedder, tmp_path: Path) -> None:
    path = tmp_path / "life.db"
    bundled = MiniLM()
    with opened(path, bundled) as memory:
        memory.user("ana").remember(SAID)
        before = answers(memory)
    done: list[int] = []
    with opened(path, embedder) as memory:
        with pytest.raises(EmbedderMismatch):
            memory.user("ana").recall(QUESTION)
        assert memory.operator.reembed(done.append) == len(SAID)
        assert done[-1] == len(SAID)
        assert answers(memory)[0][0] == SAID[1]
        assert memory.operator.stats().embedder == NAME
        assert without_vector(memory) == 0
    with opened(path, bundled) as memory:
        with pytest.raises(EmbedderMismatch, match=NAME):
            memory.user("ana").remember("One more.")
        assert memory.operator.reembed() == len(SAID)
        assert memory.operator.stats().embedder == bundled.name
        assert answers(memory) == before


def test_settings_choose_the_server(
    model_server: ModelServer, clients: list[httpx.Client], tmp_path: Path
) -> None:
    chosen = Settings(embedder_url=model_server.url, embedder_model=model_server.model)
    with Memory(tmp_path / "life.db", settings=chosen) as memory:
        assert memory.user("ana").remember(SAID).state == "indexed"
        assert answers(memory)[0][0] == SAID[1]
        assert memory.operator.stats().embedder == NAME
    assert len(clients) == 1


def test_a_closed_memory_leaves_no_connection_of_its_own(
    model_server: ModelServer, clients: list[httpx.Client], tmp_path: Path
) -> None:
    chosen = Settings(embedder_url=model_server.url, embedder_model=model_server.model)
    with Memory(tmp_path / "life.db", settings=chosen) as memory:
        memory.user("ana").remember(SAID[0])
    assert [client.is_closed for client in clients] == [True]


def test_settings_without_a_models_name_are_refused(
    model_server: ModelServer, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="MNEMIC_EMBEDDER_MODEL"):
        Memory(tmp_path / "life.db", settings=Settings(embedder_url=model_server.url))
