"""A model server that says what its script says: OpenAI's protocol over HTTP, on this machine only.

It stands where a real one would, so that a client meets real requests, streams and failures. It knows
no model; what it embeds is a `FakeEmbedder`'s, unless another embedder is given.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any, Self

from mnemic.errors import EmbedderError
from mnemic.models.embedder import Embedder
from mnemic.testing import wire
from mnemic.testing.fakes import FakeEmbedder
from mnemic.testing.wire import Json, Reply, Said, ToolCall, as_reply

__all__ = ["Request", "ScriptedServer"]

MAX_BODY = 16 << 20
MAX_REQUESTS = 1000

Script = Said | Iterable[Said] | Callable[[list[Json]], Said]


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came; `headers` by their names in lower case, `body` None where it has none."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Json | None = None


class ScriptedServer:
    """An OpenAI-compatible server for tests, on a free port of the loopback interface.

    It serves `/v1/chat/completions`, plain and streamed, `/v1/embeddings` and `/v1/models` from the moment
    it is made; use it in a `with` block, or `close()` it. `script` is what chat is answered with: a reply
    (a text, a `ToolCall`, or a `Reply`, which may also go wrong), several in order, or a function from the
    request's messages to one. Where the script has run out, the answer is a status 500 that says so.
    `url` ends in `/v1`. Any number of clients may ask at once.

    It keeps the last 1000 `requests`, and refuses those over 16 MiB.
    """

    def __init__(
        self,
        script: Script = (),
        *,
        embedder: Embedder | None = None,
        models: Sequence[str] = ("scripted",),
    ) -> None:
        self._lock = threading.Lock()
        self._write = script if callable(script) else None
        self._replies: deque[Reply] = deque()
        if isinstance(script, str | ToolCall | Reply):
            self.say(script)
        elif not callable(script):
            self.say(*script)
        self._faults: deque[Reply] = deque()
        self._embedder = embedder or FakeEmbedder()
        self._models = tuple(models)
        self._requests: deque[Request] = deque(maxlen=MAX_REQUESTS)
        self._chats = 0
        self._http = _Http(self)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._serving = threading.Thread(
            target=self._http.serve_forever, args=(0.02,), name="mnemic-scripted", daemon=True
        )
        self._serving.start()

    @property
    def requests(self) -> list[Request]:
        """The requests so far, in the order of their arrival."""
        with self._lock:
            return list(self._requests)

    @property
    def left(self) -> int:
        """How many replies of the script nobody has asked for yet."""
        with self._lock:
            return len(self._replies)

    def say(self, *said: Said) -> None:
        """Add to the end of the script."""
        with self._lock:
            self._replies.extend(map(as_reply, said))

    def spoil(self, *replies: Reply) -> None:
        """Let the next requests for vectors go wrong, one a reply; after them all is well again."""
        with self._lock:
            self._faults.extend(replies)

    def close(self) -> None:
        """End every connection and thread. Raises what the script's function raised, if it did."""
        self._http.stop()
        self._serving.join()
        error, self._http.error = self._http.error, None
        if error is not None:
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self._http.error is not None:
            error.add_note(f"the scripted server failed first: {self._http.error!r}")
            self._http.error = None
        self.close()

    def _answer(self, request: Request) -> tuple[Reply, list[bytes], bool]:
        """What to answer: the reply, its content in pieces, and whether they are a stream's events."""
        path = request.path.partition("?")[0]
        with self._lock:
            self._requests.append(request)
        if (request.method, path) == ("GET", "/v1/models"):
            return Reply(), [_json(wire.models(self._models))], False
        if request.body is None or path not in ("/v1/chat/completions", "/v1/embeddings"):
            known = "POST /v1/chat/completions, POST /v1/embeddings, GET /v1/models"
            raise _RefusedError(404, f"no {request.method} {path} here, but {known}")
        if path == "/v1/embeddings":
            return self._embed(request.body)
        return self._chat(request.body)

    def _embed(self, body: Json) -> tuple[Reply, list[bytes], bool]:
        texts = [body["input"]] if isinstance(body.get("input"), str) else body.get("input")
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise _RefusedError(400, "input must be a text or a list of texts")
        with self._lock:
            reply = self._faults.popleft() if self._faults else Reply()
        try:
            vectors = self._embedder.embed(texts)
        except EmbedderError as error:
            raise _RefusedError(503, str(error)) from error
        return reply, [_json(wire.embeddings(body, texts, vectors))], False

    def _chat(self, body: Json) -> tuple[Reply, list[bytes], bool]:
        messages = body.get("messages")
        if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
            raise _RefusedError(400, "messages must be a list of messages")
        with self._lock:
            self._chats += 1
            number = self._chats
            reply = self._replies.popleft() if self._replies else None
        if reply is None and self._write is not None:
            reply = as_reply(self._write(messages))
        if reply is None:
            raise _RefusedError(500, f"the script has run out: it has no reply {number}")
        if not body.get("stream"):
            return reply, [_json(wire.completion(number, body, reply))], False
        events = [b"data: %b\n\n" % _json(each) for each in wire.chunks(number, body, reply)]
        return reply, [*events, b"data: [DONE]\n\n"], True


class _RefusedError(Exception):
    """A request that gets an error of the server's own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Http(ThreadingMixIn, HTTPServer):
    """The listening socket, and a thread a connection, all of which `stop` ends."""

    request_queue_size = 128

    def __init__(self, scripted: ScriptedServer) -> None:
        self.scripted = scripted
        self.error: BaseException | None = None
        self.stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._busy: list[threading.Thread] = []
        super().__init__(("127.0.0.1", 0), _Exchange)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's asks a name server about the address

    def process_request(self, request: Any, client_address: Any) -> None:
        work = (request, client_address)
        thread = threading.Thread(target=self.process_request_thread, args=work, daemon=True)
        self._connections.add(request)
        self._busy = [other for other in self._busy if other.is_alive()] + [thread]
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        # A client may hang up when it likes; anything else is the script's function, or the embedder.
        if self.error is None and not isinstance(error, ConnectionError):
            self.error = error

    def stop(self) -> None:
        if self.stopping.is_set():
            return
        self.stopping.set()
        self.shutdown()
        self.server_close()
        for connection in tuple(self._connections):
            with suppress(OSError):  # it was closed just now
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._busy:
            thread.join()


class _Exchange(BaseHTTPRequestHandler):
    """One connection, and the requests that come over it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def do_GET(self) -> None:
        self._exchange(lambda: None)

    def do_POST(self) -> None:
        self._exchange(self._read_json)

    def log_message(self, *args: Any) -> None:
        pass

    def _exchange(self, read: Callable[[], Json | None]) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            request = Request(str(self.command), self.path, headers, read())
            reply, content, stream = self.server.scripted._answer(request)
        except _RefusedError as refused:
            reply, content, stream = Reply(str(refused), status=refused.status), [], False
        if self.server.stopping.wait(reply.delay) or reply.drop:
            self.close_connection = True
        elif reply.status != 200:
            error = _json(wire.failure(reply.status, reply.text))
            self._send(reply, error if reply.body is None else reply.body)
        elif reply.body is not None or not stream:
            self._send(reply, content[0] if reply.body is None else reply.body)
        else:
            self._stream(reply, content)

    def _read_json(self) -> Json:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 15:
            self.close_connection = True
            raise _RefusedError(411, "a request needs its length in bytes as Content-Length")
        left = int(length)
        if left > MAX_BODY:
            # Read it all the same: a client that is still sending doesn't hear the answer.
            while left > 0 and (read := self.rfile.read(min(left, 1 << 16))):
                left -= len(read)
            raise _RefusedError(413, f"a request has at most {MAX_BODY:,} bytes here")
        try:
            body = json.loads(self.rfile.read(left))
        except (ValueError, RecursionError) as error:
            raise _RefusedError(400, f"the request is no JSON: {error}") from None
        if not isinstance(body, dict):
            raise _RefusedError(400, "the request is no JSON object")
        return body

    def _send(self, reply: Reply, content: bytes) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if reply.retry_after is not None:
            self.send_header("Retry-After", f"{reply.retry_after:g}")
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if reply.half else content)
        self.close_connection = self.close_connection or reply.half

    def _stream(self, reply: Reply, events: Sequence[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events[: len(events) // 2] if reply.half else events:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
        if reply.half:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")


def _json(value: Json) -> bytes:
    return json.dumps(value).encode()
