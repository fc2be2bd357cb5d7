"""The embedder behind a URL, against a real HTTP server that serves the bundled model's vectors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mnemic import BadVector, Embedder, EmbedderUnavailable, InputError, Memory
from mnemic.models import remote
from mnemic.models.minilm import MiniLM
from mnemic.models.remote import RemoteEmbedder
from mnemic.testing import EmbedderContract, FakeEmbedder, Reply, ScriptedServer

MODEL = MiniLM()
DOWN = Reply(status=500, retry_after=0)


class Doubled:
    """A server's model, whose vectors are twice as long as ours must be."""

    name = "doubled"
    dimensions = MODEL.dimensions

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return 2 * MODEL.embed(texts)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(embedder=Doubled()) as serving:
        yield serving


@pytest.fixture
def embedder(server: ScriptedServer) -> Iterator[RemoteEmbedder]:
    made = RemoteEmbedder(server.url, "minilm", key="secret")
    yield made
    made.close()


class TestContract(EmbedderContract):
    elsewhere = False  # the server is in this process

    @pytest.fixture(autouse=True)
    def serve(self) -> Iterator[None]:
        with ScriptedServer(embedder=FakeEmbedder()) as serving:
            self.made = RemoteEmbedder(serving.url, "fake")
            yield
            self.made.close()

    def embedder(self) -> Embedder:
        return self.made


def data(rows: Any) -> Reply:
    """A server's answer with such rows, whatever was asked."""
    return Reply(body=json.dumps({"data": rows}).encode())


def rows_of(*vectors: Sequence[float]) -> list[dict[str, Any]]:
    return [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]


def test_a_remote_model_gives_its_vectors_as_unit_rows_in_order(
    server: ScriptedServer, embedder: RemoteEmbedder
) -> None:
    texts = [f"sentence number {n}" for n in range(remote.BATCH + 3)]
    vectors = embedder.embed(texts)
    assert np.allclose(vectors, MODEL.embed(texts), atol=1e-5)
    assert embedder.dimensions == 384
    bodies = [request.body or {} for request in server.requests]
    assert [len(body["input"]) for body in bodies] == [remote.BATCH, 3]
    assert {body["model"] for body in bodies} == {"minilm"}
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer secret"}


def test_the_index_says_which_row_is_whose(
    server: ScriptedServer, embedder: RemoteEmbedder
) -> None:
    server.spoil(data(rows_of([0, 0, 1], [0, 1, 0], [1, 0, 0])[::-1]))
    assert embedder.embed(["a", "b", "c"]).tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]


def test_a_store_works_on_a_remote_model(
    server: ScriptedServer, embedder: RemoteEmbedder, tmp_path: Path
) -> None:
    with Memory(tmp_path / "life.db", embedder=embedder) as memory:
        ana = memory.user("ana")
        receipt = ana.remember(["I moved to Lisbon.", "The cat sleeps all day."])
        assert receipt.state == "indexed"
        assert ana.recall("Where is my new home?")[0].memory.text == "I moved to Lisbon."
        assert memory.operator.stats().embedder == "openai-compatible/minilm"


def test_a_busy_server_is_asked_again(server: ScriptedServer, embedder: RemoteEmbedder) -> None:
    server.spoil(Reply("slow down", status=429, retry_after=0), Reply(status=503, retry_after=0))
    assert embedder.embed(["hello"]).shape == (1, 384)
    assert len(server.requests) == 3


def test_asking_again_ends(server: ScriptedServer, embedder: RemoteEmbedder) -> None:
    server.spoil(*[Reply("broken", status=500, retry_after=0)] * 20)
    with pytest.raises(EmbedderUnavailable, match=r"HTTP 500: .*broken"):
        embedder.embed(["hello"])
    assert len(server.requests) == remote.TRIES


def test_a_refusal_is_not_asked_again(server: ScriptedServer, embedder: RemoteEmbedder) -> None:
    server.spoil(*[Reply("no such key", status=401)] * 2)
    with pytest.raises(EmbedderUnavailable, match="401"):
        embedder.embed(["hello"])
    assert len(server.requests) == 1


FULL = rows_of([1.0] * 384, [2.0] * 384)


@pytest.mark.parametrize(
    "answer",
    [
        data(FULL[:-1]),
        data([{"index": 0} for _ in FULL]),
        Reply(body=b"[]"),
        data([{**row, "embedding": [float("nan")] * 384} for row in FULL]),
        data([{**row, "embedding": [0.0] * 384} for row in FULL]),
        data([{**row, "embedding": ["x"] * 384} for row in FULL]),
        data(rows_of([1.0] * 384, [1.0] * 100)),
        data(rows_of([1.0] * 100, [1.0] * 100)),
    ],
    ids=["too few", "no embedding", "no data", "not finite", "zero", "text", "ragged", "short"],
)
def test_an_answer_that_is_no_vector_is_refused(
    server: ScriptedServer, embedder: RemoteEmbedder, answer: Reply
) -> None:
    assert embedder.dimensions == 384
    server.spoil(answer)
    with pytest.raises(BadVector):
        embedder.embed(["hello", "there"])


@pytest.mark.parametrize(
    "broken",
    [Reply(drop=True), Reply(half=True), Reply(body=b'{"data": [{"ind'), Reply(body=b"<html>")],
    ids=["dropped", "half", "half a JSON", "no JSON"],
)
def test_a_broken_answer_is_asked_for_again(
    server: ScriptedServer,
    embedder: RemoteEmbedder,
    broken: Reply,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "MAX_WAIT_S", 0.0)
    server.spoil(broken, broken)
    assert embedder.embed(["hello"]).shape == (1, 384)
    server.spoil(*[broken] * remote.TRIES)
    with pytest.raises(EmbedderUnavailable, match=r"127\.0\.0\.1"):
        embedder.embed(["hello"])
    assert len(server.requests) == 3 + remote.TRIES


def test_nobody_there_is_said_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_WAIT_S", 0.0)
    with pytest.raises(EmbedderUnavailable, match=r"127\.0\.0\.1:9"):
        RemoteEmbedder("http://127.0.0.1:9/v1", "m").embed(["hello"])


def test_words_are_kept_while_the_server_is_down(server: ScriptedServer, tmp_path: Path) -> None:
    embedder = RemoteEmbedder(server.url, "minilm", dimensions=384)
    server.spoil(*[DOWN] * remote.TRIES)
    with Memory(tmp_path / "life.db", embedder=embedder) as memory:
        receipt = memory.user("ana").remember("I moved to Lisbon.")
        assert receipt.state == "committed"
        assert "HTTP 500" in str(receipt.error)
        assert memory.user("ana").recall("Lisbon")[0].memory.text == "I moved to Lisbon."
        assert memory.operator.stats().jobs == {"embed": 1}
    embedder.close()


def test_a_question_is_answered_by_words_while_the_server_is_down(
    server: ScriptedServer, tmp_path: Path
) -> None:
    embedder = RemoteEmbedder(server.url, "minilm", dimensions=384)
    with Memory(tmp_path / "life.db", embedder=embedder) as memory:
        memory.user("ana").remember(["The cat sleeps all day.", "I moved to Lisbon."])
        server.spoil(*[DOWN] * remote.TRIES)
        found = memory.user("ana").recall("Lisbon")
        assert found[0].memory.text == "I moved to Lisbon."
        assert "HTTP 500" in str(found.error)
        assert memory.user("ana").recall("Lisbon").error is None
    embedder.close()


def test_words_are_kept_though_the_server_was_away_from_the_start(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = RemoteEmbedder(server.url, "minilm")
    with Memory(tmp_path / "life.db", embedder=there) as memory:
        memory.user("ana").remember("The cat sleeps all day.")
    there.close()
    monkeypatch.setattr(remote, "MAX_WAIT_S", 0.0)
    away = RemoteEmbedder("http://127.0.0.1:9/v1", "minilm")
    with Memory(tmp_path / "life.db", embedder=away) as memory:
        assert memory.user("ana").remember("I moved to Lisbon.").state == "committed"
        assert memory.user("ana").recall("Lisbon")[0].memory.text == "I moved to Lisbon."


@pytest.mark.parametrize(("url", "model"), [("localhost:80", "m"), ("http://x/v1", "")])
def test_a_wrong_address_is_refused_before_anything_is_asked(url: str, model: str) -> None:
    with pytest.raises(InputError):
        RemoteEmbedder(url, model)
