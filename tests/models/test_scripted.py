"""The scripted model server: it says what its script says, and leaves nothing behind."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic, sleep
from typing import Any

import httpx
import numpy as np
import pytest

from mnemic.testing import FailingEmbedder, FakeEmbedder, Reply, ScriptedServer, ToolCall, server

ASK = [{"role": "user", "content": "Where does Ana live?"}]


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=20) as made:
        yield made


def chat(client: httpx.Client, serving: ScriptedServer, **more: Any) -> httpx.Response:
    body = {"model": "m", "messages": ASK, **more}
    return client.post(f"{serving.url}/chat/completions", json=body)


def text_of(answer: httpx.Response) -> Any:
    return answer.json()["choices"][0]["message"]["content"]


def events(answer: httpx.Response) -> list[Any]:
    """The events of a stream, without its end."""
    lines = [line for line in answer.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def deltas(answer: httpx.Response) -> list[Any]:
    return [event["choices"][0]["delta"] for event in events(answer) if event["choices"]]


# --- what it says ---------------------------------------------------------------------------------


def test_a_script_is_said_in_order_and_then_has_run_out(client: httpx.Client) -> None:
    with ScriptedServer(["one", Reply("two")]) as serving:
        assert serving.left == 2
        assert [text_of(chat(client, serving)) for _ in range(2)] == ["one", "two"]
        answer = chat(client, serving)
        assert answer.status_code == 500
        assert "the script has run out: it has no reply 3" in answer.json()["error"]["message"]
        serving.say("three")
        assert text_of(chat(client, serving)) == "three"
        assert serving.left == 0


@pytest.mark.parametrize("one", ["one", Reply("one")])
def test_a_script_may_be_one_reply(client: httpx.Client, one: str | Reply) -> None:
    with ScriptedServer(one) as serving:
        assert text_of(chat(client, serving)) == "one"
        assert serving.left == 0


def test_an_answer_is_a_completion_with_its_words_counted(client: httpx.Client) -> None:
    with ScriptedServer(["In Lisbon."]) as serving:
        parts = [{"type": "text", "text": "one two"}, {"type": "image_url", "image_url": {}}]
        answer = chat(client, serving, messages=[*ASK, {"role": "user", "content": parts}])
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "In Lisbon."},
                    "finish_reason": "stop",
                    "logprobs": None,
                }
            ],
            "usage": {"prompt_tokens": 6, "completion_tokens": 2, "total_tokens": 8},
        }


def test_a_function_answers_what_was_asked(client: httpx.Client) -> None:
    with ScriptedServer(lambda messages: f"You said: {messages[-1]['content']}") as serving:
        assert text_of(chat(client, serving)) == "You said: Where does Ana live?"
        assert serving.left == 0


def test_a_tool_is_called(client: httpx.Client) -> None:
    calls = (ToolCall("recall", {"question": "Where?"}), ToolCall("broken", '{"a', id="mine"))
    with ScriptedServer([Reply("Let me look.", calls), calls[0]]) as serving:
        [choice] = chat(client, serving).json()["choices"]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] == "Let me look."
        first, second = choice["message"]["tool_calls"]
        assert first["function"] == {"name": "recall", "arguments": '{"question": "Where?"}'}
        assert (second["id"], second["function"]["arguments"]) == ("mine", '{"a')
        assert first["id"] != second["id"]
        [choice] = chat(client, serving).json()["choices"]
        assert choice["message"]["content"] is None


@pytest.mark.parametrize("text", ["", "one", " one  two\n\nthree ", "\n", "漢字 👩‍👩‍👧"], ids=ascii)
def test_a_stream_says_the_same_in_pieces(client: httpx.Client, text: str) -> None:
    with ScriptedServer([text, text]) as serving:
        whole = chat(client, serving)
        counted = {"stream_options": {"include_usage": True}}
        answer = chat(client, serving, stream=True, **counted)
        assert answer.headers["content-type"] == "text/event-stream"
        assert "".join(delta.get("content", "") for delta in deltas(answer)) == text
        *others, end, last = events(answer)
        assert end["choices"][0]["finish_reason"] == "stop"
        assert (last["choices"], last["usage"]) == ([], whole.json()["usage"])
        assert all(event["usage"] is None for event in others)
        assert text_of(whole) == text


def test_a_stream_counts_only_where_it_is_asked_to(client: httpx.Client) -> None:
    with ScriptedServer(["one"]) as serving:
        assert all("usage" not in event for event in events(chat(client, serving, stream=True)))


def test_a_tool_is_called_in_a_stream(client: httpx.Client) -> None:
    calls = (ToolCall("f", {"a": [1, 2]}), ToolCall("g"))
    with ScriptedServer([Reply(tool_calls=calls)]) as serving:
        answer = chat(client, serving, stream=True)
        arguments, names = {0: "", 1: ""}, {}
        for delta in deltas(answer):
            for call in delta.get("tool_calls", []):
                arguments[call["index"]] += call["function"]["arguments"]
                if "name" in call["function"]:
                    names[call["index"]] = call["function"]["name"]
        assert (names, arguments) == ({0: "f", 1: "g"}, {0: '{"a": [1, 2]}', 1: "{}"})
        assert events(answer)[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_vectors_are_the_embedders(client: httpx.Client) -> None:
    texts = ["a tram", "in Lisbon"]
    with ScriptedServer(embedder=FakeEmbedder("fake", 48)) as serving:
        url = f"{serving.url}/embeddings"
        answer = client.post(url, json={"model": "m", "input": texts}).json()
        vectors = np.array([row["embedding"] for row in answer["data"]], dtype=np.float32)
        assert vectors.tobytes() == FakeEmbedder("fake", 48).embed(texts).tobytes()
        assert [row["index"] for row in answer["data"]] == [0, 1]
        assert answer["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
        packed = {"model": "m", "input": texts[0], "encoding_format": "base64"}
        [row] = client.post(url, json=packed).json()["data"]
        assert base64.b64decode(row["embedding"]) == vectors[0].tobytes()


def test_models_are_named(client: httpx.Client) -> None:
    with ScriptedServer(models=("small", "large")) as serving:
        answer = client.get(f"{serving.url}/models").json()
        assert [model["id"] for model in answer["data"]] == ["small", "large"]


def test_requests_are_kept_as_they_came(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_REQUESTS", 3)
    with ScriptedServer(["one"] * 5) as serving:
        client.get(f"{serving.url}/models?limit=1", headers={"Authorization": "Bearer key"})
        for n in range(2):
            chat(client, serving, temperature=n)
        first, *rest = serving.requests
        assert (first.method, first.path, first.body) == ("GET", "/v1/models?limit=1", None)
        assert first.headers["authorization"] == "Bearer key"
        assert [(request.body or {})["temperature"] for request in rest] == [0, 1]
        chat(client, serving)
        assert serving.requests[:2] == rest


def test_many_clients_each_get_a_reply_of_their_own(client: httpx.Client) -> None:
    script = [f"reply {n}" for n in range(40)]
    with ScriptedServer(script) as serving, ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda _: text_of(chat(client, serving)), range(40)))
    assert sorted(said) == sorted(script)


# --- what goes wrong as told ----------------------------------------------------------------------


def test_a_status_comes_with_its_message_and_wait(client: httpx.Client) -> None:
    script = [Reply("slow down", status=429, retry_after=1.5), Reply(status=503, body=b"<html>")]
    with ScriptedServer(script) as serving:
        for stream in (True, False):
            answer = chat(client, serving, stream=stream)
            if stream:
                assert answer.status_code == 429
                assert answer.headers["retry-after"] == "1.5"
                assert answer.json()["error"]["message"] == "slow down"
            else:
                assert (answer.status_code, answer.content) == (503, b"<html>")
                assert "retry-after" not in answer.headers


@pytest.mark.parametrize("stream", [False, True])
def test_a_body_is_sent_as_it_is(client: httpx.Client, stream: bool) -> None:
    with ScriptedServer([Reply("unheard", body=b'{"choices": [{"mess')]) as serving:
        answer = chat(client, serving, stream=stream)
        assert (answer.status_code, answer.content) == (200, b'{"choices": [{"mess')


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", [Reply("one two three", half=True), Reply("unheard", drop=True)])
def test_a_connection_is_lost(client: httpx.Client, how: Reply, stream: bool) -> None:
    with ScriptedServer([how, "well again"]) as serving:
        with pytest.raises(httpx.RemoteProtocolError):
            chat(client, serving, stream=stream)
        assert text_of(chat(client, serving)) == "well again"


def test_half_a_stream_is_heard_before_it_is_lost(client: httpx.Client) -> None:
    heard: list[str] = []
    with ScriptedServer([Reply("one two three four five six", half=True)]) as serving:
        body = {"model": "m", "messages": ASK, "stream": True}
        url = f"{serving.url}/chat/completions"
        with pytest.raises(httpx.HTTPError), client.stream("POST", url, json=body) as answer:
            heard.extend(answer.iter_lines())
    said = "".join(heard)
    assert "one " in said
    assert "six" not in said
    assert "[DONE]" not in said


def test_an_answer_may_be_too_late(client: httpx.Client) -> None:
    with ScriptedServer([Reply("late", delay=30), Reply("soon", delay=0.01)]) as serving:
        with pytest.raises(httpx.ReadTimeout):
            client.post(
                f"{serving.url}/chat/completions",
                json={"model": "m", "messages": ASK},
                timeout=0.1,
            )
        assert text_of(chat(client, serving)) == "soon"


def test_vectors_go_wrong_as_often_as_told(client: httpx.Client) -> None:
    with ScriptedServer(["chat goes on"]) as serving:
        serving.spoil(Reply("busy", status=503), Reply(half=True))
        url, body = f"{serving.url}/embeddings", {"model": "m", "input": ["a"]}
        assert client.post(url, json=body).status_code == 503
        assert text_of(chat(client, serving)) == "chat goes on"
        with pytest.raises(httpx.RemoteProtocolError):
            client.post(url, json=body)
        assert client.post(url, json=body).status_code == 200


def test_an_embedder_that_is_away_is_told_as_such(client: httpx.Client) -> None:
    embedder = FailingEmbedder()
    embedder.failing = True
    with ScriptedServer(embedder=embedder) as serving:
        answer = client.post(f"{serving.url}/embeddings", json={"model": "m", "input": "a"})
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == "the model is away"


# --- what it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/completions", b"{}", 404),
        ("/chat/completions", b"{}", 404),
        ("/v1/models", b"{}", 404),
        ("/v1/chat/completions", b"{", 400),
        ("/v1/chat/completions", b"[" * 100_000, 400),
        ("/v1/chat/completions", b"\xff", 400),
        ("/v1/chat/completions", b"[]", 400),
        ("/v1/chat/completions", b"{}", 400),
        ("/v1/chat/completions", b'{"messages": ["hello"]}', 400),
        ("/v1/embeddings", b"{}", 400),
        ("/v1/embeddings", b'{"input": [[1, 2]]}', 400),
    ],
)  # fmt: skip
def test_what_is_no_request_of_this_protocol_is_refused(
    client: httpx.Client, path: str, body: bytes, status: int
) -> None:
    with ScriptedServer(["unheard"]) as serving:
        answer = client.post(serving.url.removesuffix("/v1") + path, content=body)
        assert answer.status_code == status
        assert answer.json()["error"]["message"]
        assert serving.left == 1
        # The connection is as good as before.
        assert text_of(chat(client, serving)) == "unheard"


def test_a_request_that_is_too_large_is_refused(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_BODY", 100_000)
    with ScriptedServer(["one"]) as serving:
        answer = chat(client, serving, padding="x" * 10_000_000)
        assert answer.status_code == 413
        assert serving.requests == []
        assert text_of(chat(client, serving)) == "one"


def test_a_request_of_unknown_length_is_refused(client: httpx.Client) -> None:
    with ScriptedServer(["one"]) as serving:
        answer = client.post(f"{serving.url}/chat/completions", content=iter([b"{}"]))
        assert answer.status_code == 411


def test_a_script_says_texts_calls_and_replies() -> None:
    wrong: Any = [5]
    with pytest.raises(TypeError, match="not int"):
        ScriptedServer(wrong)


# --- what it leaves behind ------------------------------------------------------------------------


def test_closing_ends_threads_connections_and_waits(client: httpx.Client) -> None:
    before = set(threading.enumerate())
    start = monotonic()
    with ScriptedServer(["one", Reply("late", delay=500)]) as serving:
        assert text_of(chat(client, serving)) == "one"  # and its connection stays open
        place = serving.url.removeprefix("http://").removesuffix("/v1").split(":")
        with socket.create_connection((place[0], int(place[1]))) as silent:
            with ThreadPoolExecutor(1) as pool:
                asking = pool.submit(chat, client, serving)
                while serving.left:
                    sleep(0.01)
                serving.close()
                with pytest.raises(httpx.TransportError):
                    asking.result()
            with suppress(ConnectionResetError):  # if it had not been accepted yet
                assert silent.recv(1) == b""
    assert set(threading.enumerate()) == before
    assert monotonic() - start < 100
    with pytest.raises(httpx.ConnectError):
        chat(client, serving)


def test_what_a_scripts_function_raises_is_raised_at_the_end(client: httpx.Client) -> None:
    def refuse(messages: list[dict[str, Any]]) -> str:
        raise KeyError("the prompt lacks its question")

    serving = ScriptedServer(refuse)
    with pytest.raises(httpx.RemoteProtocolError):
        chat(client, serving)
    with pytest.raises(KeyError, match="lacks its question"):
        serving.close()
    serving.close()
    with pytest.raises(httpx.RemoteProtocolError) as lost, ScriptedServer(refuse) as serving:
        chat(client, serving)
    assert "lacks its question" in lost.value.__notes__[0]
    with pytest.raises(KeyError), ScriptedServer(refuse) as serving, suppress(httpx.HTTPError):
        chat(client, serving)


def test_a_client_that_hangs_up_is_no_error() -> None:
    with ScriptedServer(lambda _: Reply("word " * 2_000_000, delay=0.05)) as serving:
        host, port = serving.url.removeprefix("http://").removesuffix("/v1").split(":")
        body = json.dumps({"messages": ASK}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection((host, int(port))) as caller:
            caller.sendall(head.encode() + body)
        with socket.create_connection((host, int(port))) as caller:
            caller.sendall(head.encode() + body[:5])


def test_testing_needs_neither_pytest_nor_a_model_and_nobody_needs_it() -> None:
    heavy = ("pytest", "httpx", "onnxruntime", "tokenizers", "mnemic.surfaces.cli")
    code = (
        "import sys, mnemic, mnemic.memory\n"
        "assert 'mnemic.testing' not in sys.modules\n"
        "import mnemic.testing\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
