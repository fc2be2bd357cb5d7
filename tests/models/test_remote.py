"""The embedder behind a URL, against a real HTTP server that serves the bundled model's vectors."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnemic import BadVector, EmbedderUnavailable, InputError, Memory
from mnemic.models import remote
from mnemic.models.minilm import MiniLM
from mnemic.models.remote import RemoteEmbedder

Answer = tuple[int, bytes, dict[str, str]]


MODEL = MiniLM()


class Server:
    """Serves `/v1/embeddings`; `faults` are answered first, one a request."""

    def __init__(self) -> None:
        self.model = MODEL
        self.faults: list[Answer] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.shape: Callable[[list[dict[str, Any]]], Any] = lambda rows: {"data": rows}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(body)
                outer.keys.append(self.headers.get("Authorization"))
                status, content, headers = outer.answer(body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, body: dict[str, Any]) -> Answer:
        if self.faults:
            return self.faults.pop(0)
        vectors = self.model.embed(body["input"])
        rows = [{"index": i, "embedding": (2 * v).tolist()} for i, v in enumerate(vectors)]
        # The order of rows is theirs to choose; `index` says which is which.
        return 200, json.dumps(self.shape(rows[::-1])).encode(), {}


@pytest.fixture
def server() -> Iterator[Server]:
    serving = Server()
    yield serving
    serving.http.shutdown()
    serving.http.server_close()


@pytest.fixture
def embedder(server: Server) -> Iterator[RemoteEmbedder]:
    made = RemoteEmbedder(server.url, "minilm", key="secret")
    yield made
    made.close()


def test_a_remote_model_gives_its_vectors_as_unit_rows_in_order(
    server: Server, embedder: RemoteEmbedder
) -> None:
    texts = [f"sentence number {n}" for n in range(remote.BATCH + 3)]
    vectors = embedder.embed(texts)
    assert np.allclose(vectors, server.model.embed(texts), atol=1e-5)
    assert embedder.dimensions == 384
    assert [len(request["input"]) for request in server.requests] == [remote.BATCH, 3]
    assert set(server.keys) == {"Bearer secret"}


def test_a_store_works_on_a_remote_model(
    server: Server, embedder: RemoteEmbedder, tmp_path: Path
) -> None:
    with Memory(tmp_path / "life.db", embedder=embedder) as memory:
        ana = memory.user("ana")
        receipt = ana.remember(["I moved to Lisbon.", "The cat sleeps all day."])
        assert receipt.state == "indexed"
        assert ana.recall("Where is my new home?")[0].memory.text == "I moved to Lisbon."
        assert memory.operator.stats().embedder == "openai-compatible/minilm"


def test_a_busy_server_is_asked_again(server: Server, embedder: RemoteEmbedder) -> None:
    server.faults = [(429, b"slow down", {"Retry-After": "0"}), (503, b"", {"Retry-After": "0"})]
    assert embedder.embed(["hello"]).shape == (1, 384)
    assert len(server.requests) == 3


def test_asking_again_ends(server: Server, embedder: RemoteEmbedder) -> None:
    server.faults = [(500, b"broken", {"Retry-After": "0"})] * 20
    with pytest.raises(EmbedderUnavailable, match="HTTP 500: broken"):
        embedder.embed(["hello"])
    assert len(server.requests) == remote.TRIES


def test_a_refusal_is_not_asked_again(server: Server, embedder: RemoteEmbedder) -> None:
    server.faults = [(401, b"no such key", {})] * 2
    with pytest.raises(EmbedderUnavailable, match="401"):
        embedder.embed(["hello"])
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "shape",
    [
        lambda rows: {"data": rows[:-1]},
        lambda rows: {"data": [{"index": 0} for _ in rows]},
        lambda rows: [],
        lambda rows: {"data": [{**row, "embedding": [float("nan")] * 384} for row in rows]},
        lambda rows: {"data": [{**row, "embedding": [0.0] * 384} for row in rows]},
        lambda rows: {"data": [{**row, "embedding": ["x"] * 384} for row in rows]},
    ],
    ids=["too few", "no embedding", "no data", "not finite", "zero", "text"],
)
def test_an_answer_that_is_no_vector_is_refused(
    server: Server, embedder: RemoteEmbedder, shape: Callable[[Any], Any]
) -> None:
    assert embedder.dimensions == 384
    server.shape = shape
    with pytest.raises(BadVector):
        embedder.embed(["hello", "there"])


def test_a_vector_of_another_size_is_refused(server: Server, embedder: RemoteEmbedder) -> None:
    assert embedder.dimensions == 384
    server.shape = lambda rows: {"data": [{**r, "embedding": r["embedding"][:100]} for r in rows]}
    with pytest.raises(BadVector):
        embedder.embed(["hello"])


def test_nobody_there_is_said_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_WAIT_S", 0.0)
    with pytest.raises(EmbedderUnavailable, match=r"127\.0\.0\.1:9"):
        RemoteEmbedder("http://127.0.0.1:9/v1", "m").embed(["hello"])


def test_words_are_kept_while_the_server_is_down(server: Server, tmp_path: Path) -> None:
    embedder = RemoteEmbedder(server.url, "minilm", dimensions=384)
    server.faults = [(500, b"", {"Retry-After": "0"})] * remote.TRIES
    with Memory(tmp_path / "life.db", embedder=embedder) as memory:
        receipt = memory.user("ana").remember("I moved to Lisbon.")
        assert receipt.state == "committed"
        assert "HTTP 500" in str(receipt.error)
        assert memory.user("ana").recall("Lisbon")[0].memory.text == "I moved to Lisbon."
        assert memory.operator.stats().jobs == {"embed": 1}
    embedder.close()


def test_a_question_is_answered_by_words_while_the_server_is_down(
    server: Server, tmp_path: Path
) -> None:
    embedder = RemoteEmbedder(server.url, "minilm", dimensions=384)
    with Memory(tmp_path / "life.db", embedder=embedder) as memory:
        memory.user("ana").remember(["The cat sleeps all day.", "I moved to Lisbon."])
        server.faults = [(500, b"", {"Retry-After": "0"})] * remote.TRIES
        found = memory.user("ana").recall("Lisbon")
        assert found[0].memory.text == "I moved to Lisbon."
        assert "HTTP 500" in str(found.error)
        assert memory.user("ana").recall("Lisbon").error is None
    embedder.close()


def test_words_are_kept_though_the_server_was_away_from_the_start(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Memory(tmp_path / "life.db", embedder=RemoteEmbedder(server.url, "minilm")) as memory:
        memory.user("ana").remember("The cat sleeps all day.")
    monkeypatch.setattr(remote, "MAX_WAIT_S", 0.0)
    away = RemoteEmbedder("http://127.0.0.1:9/v1", "minilm")
    with Memory(tmp_path / "life.db", embedder=away) as memory:
        assert memory.user("ana").remember("I moved to Lisbon.").state == "committed"
        assert memory.user("ana").recall("Lisbon")[0].memory.text == "I moved to Lisbon."


@pytest.mark.parametrize(("url", "model"), [("localhost:80", "m"), ("http://x/v1", "")])
def test_a_wrong_address_is_refused_before_anything_is_asked(url: str, model: str) -> None:
    with pytest.raises(InputError):
        RemoteEmbedder(url, model)
