"""An embedder behind any OpenAI-compatible URL: bounded batches, bounded retries, checked answers."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnemic.errors import BadVector, EmbedderUnavailable, InputError, MissingExtra
from mnemic.forking import renew_in_child

if TYPE_CHECKING:
    import httpx

BATCH = 32
TRIES = 4
TIMEOUT_S = 120.0
MAX_WAIT_S = 10.0
_REFUSED = {400, 413, 422}
_TOO_LONG = re.compile(r"too (?:large|long|many)|maximum|exceed", re.IGNORECASE)
_SHORTEST = 64
_RETRYABLE = {408, 409, 425, 429, 500, 502, 503, 504}


class _TooLongError(Exception):
    """The server won't take these texts, and says that it is for their length."""


class RemoteEmbedder:
    """Vectors from `POST {url}/embeddings`, as OpenAI, vLLM, llama.cpp, Ollama and others serve it.

    `url` ends where `/embeddings` begins, for example `http://localhost:8080/v1`. A store remembers
    the model's name, so the same model may move to another address. `dimensions` is learned from the
    server unless given. A text that the server finds too long is embedded by its beginning. Needs
    `pip install 'mnemic[http]'`.
    """

    def __init__(
        self, url: str, model: str | None, *, key: str | None = None, dimensions: int | None = None
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"an embedder's URL begins with http:// or https://, not {url!r}")
        if not model:
            raise InputError("name the embedder's model as well (MNEMIC_EMBEDDER_MODEL)")
        self.name = f"openai-compatible/{model}"
        self._model = model
        self._url = f"{url.rstrip('/')}/embeddings"
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._dimensions = dimensions
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()
        renew_in_child(self)

    @property
    def dimensions(self) -> int:
        """Length of the vectors; asks the server where no answer has told it yet."""
        if self._dimensions is None:
            self._dimensions = len(self._ask(["dimensions"])[0])
        return self._dimensions

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector a text, shape `(len(texts), dimensions)`.

        Raises `EmbedderUnavailable` when the server can't be reached or keeps failing, `BadVector`
        when its answer isn't one finite vector a text.
        """
        rows = [
            row for at in range(0, len(texts), BATCH) for row in self._ask(texts[at : at + BATCH])
        ]
        if rows and self._dimensions is None:
            self._dimensions = len(rows[0])
        try:
            vectors = np.array(rows, dtype=np.float32).reshape(len(texts), self.dimensions)
        except (ValueError, TypeError) as error:
            raise BadVector(f"{self.name} answered with vectors that don't fit: {error}") from None
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(norms).all() or not (norms > 0).all():
            raise BadVector(f"{self.name} answered with a vector that is zero or not finite")
        unit: NDArray[np.float32] = vectors / norms
        return unit

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def renew(self) -> None:
        """Let a child process make connections of its own."""
        self._lock = threading.Lock()
        self._client = None

    def _ask(self, texts: Sequence[str]) -> list[list[float]]:
        """Ask for some texts; what is too long is found by halving, and halved until it fits."""
        try:
            return self._ask_once(texts)
        except _TooLongError as error:
            if len(texts) > 1:
                middle = len(texts) // 2
                return self._ask(texts[:middle]) + self._ask(texts[middle:])
            if len(texts[0]) <= _SHORTEST:
                raise EmbedderUnavailable(f"{self._url} refuses a short text: {error}") from None
            return self._ask([texts[0][: len(texts[0]) // 2]])

    def _ask_once(self, texts: Sequence[str]) -> list[list[float]]:
        body = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        answer = self._post(body)
        rows = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(rows, list) or len(rows) != len(texts):
            raise BadVector(f"{self.name} didn't answer with {len(texts)} vectors")
        try:
            ordered = sorted(rows, key=lambda row: int(row["index"]))
            return [list(row["embedding"]) for row in ordered]
        except (KeyError, TypeError, ValueError) as error:
            raise BadVector(f"{self.name} answered in an unknown form: {error}") from None

    def _post(self, body: dict[str, Any]) -> Any:
        httpx = _import_httpx()
        failure = ""
        for attempt in range(TRIES):
            wait = min(0.25 * 4**attempt, MAX_WAIT_S)
            try:
                answer = self._connected().post(self._url, json=body)
                if answer.status_code == 200:
                    return answer.json()
                failure = f"HTTP {answer.status_code}: {answer.text[:200]}"
                if answer.status_code in {*_REFUSED, 500} and _TOO_LONG.search(answer.text):
                    raise _TooLongError(failure)
                if answer.status_code not in _RETRYABLE:
                    break
                wait = _asked_wait(answer.headers.get("retry-after"), wait)
            except (httpx.HTTPError, ValueError) as error:
                failure = f"{type(error).__name__}: {error}"
            if attempt < TRIES - 1:
                time.sleep(wait)
        raise EmbedderUnavailable(f"the embedder at {self._url} fails: {failure}")

    def _connected(self) -> httpx.Client:
        httpx = _import_httpx()
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(headers=self._headers, timeout=TIMEOUT_S)
            return self._client


def _asked_wait(header: str | None, usual: float) -> float:
    """What the server asks us to wait, within bounds."""
    try:
        return min(max(float(header or ""), 0.0), MAX_WAIT_S)
    except ValueError:
        return usual


def _import_httpx() -> Any:
    try:
        import httpx
    except ImportError:
        raise MissingExtra("an embedder behind a URL needs: pip install 'mnemic[http]'") from None
    return httpx
