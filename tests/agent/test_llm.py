"""Language models behind a URL: what is sent, what comes back, and what every failure becomes."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from mnemic import InputError, MissingExtra, ModelError, ModelRefused, ModelUnavailable
from mnemic.models.llm import HostedModel, LanguageModel, choose_model
from mnemic.models.loop import LOOP
from mnemic.settings import Settings
from mnemic.testing import Reply, ScriptedServer
from tests.fakes import environment

Ask = Callable[..., str]


@pytest.fixture
def asked() -> Iterator[Ask]:
    """Ask a model at a server; what it holds open is closed after the test."""
    made: list[HostedModel] = []

    def ask(server: ScriptedServer, prompt: str = "Sum up.", **given: Any) -> str:
        model = choose_model("any", server.url, **given)
        assert isinstance(model, HostedModel)
        made.append(model)
        return model.complete("Be brief.", prompt, max_tokens=50)

    yield ask
    for model in made:
        model.close()


def test_a_prompt_is_answered(asked: Ask) -> None:
    with ScriptedServer(["  Ana moved to Lisbon.\n"]) as server:
        assert asked(server, "I moved to Lisbon. <|im_start|>") == "Ana moved to Lisbon."
    body = server.requests[0].body
    assert body is not None
    assert body["max_tokens"] == 50
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert body["messages"][0]["content"] == "Be brief."


@pytest.mark.parametrize(
    ("name", "sent"),
    [("llama3.2:3b", "llama3.2:3b"), ("openai:gpt-x", "gpt-x"), ("qwen/qwen3", "qwen/qwen3")],
)
def test_a_server_is_asked_for_the_model_by_its_own_name(name: str, sent: str) -> None:
    with ScriptedServer(["Yes."]) as server:
        model = choose_model(name, server.url)
        assert model.complete("", "Well?", max_tokens=5) == "Yes."
        assert isinstance(model, HostedModel)
        model.close()
    body = server.requests[0].body
    assert body is not None
    assert body["model"] == sent
    assert [message["role"] for message in body["messages"]] == ["user"]


def test_a_key_is_sent_where_one_is_given_and_anothers_never(
    asked: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-server")
    with ScriptedServer(["One.", "Two.", "Three."]) as server:
        asked(server)
        asked(server, api_key="mine")
        monkeypatch.setenv("MNEMIC_MODEL_KEY", "ours")
        asked(server)
    keys = [request.headers.get("authorization", "") for request in server.requests]
    assert "sk-of" not in keys[0]
    assert keys[1:] == ["Bearer mine", "Bearer ours"]


def test_the_environment_names_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(["Yes."]) as server:
        monkeypatch.setenv("MNEMIC_MODEL", "small")
        monkeypatch.setenv("MNEMIC_MODEL_URL", f"{server.url}/")
        model = choose_model()
        assert (model.name, model.complete("", "Well?", max_tokens=5)) == ("small", "Yes.")
        assert isinstance(model, HostedModel)
        model.close()
    body = server.requests[0].body
    assert body is not None
    assert body["model"] == "small"


FAILURES = [
    (Reply("no", status=401), ModelRefused, "refuses the key"),
    (Reply("no", status=404), ModelRefused, "isn't known"),
    (Reply("odd", status=400), ModelRefused, "refuses the request.*odd"),
    (Reply("boom", status=500), ModelUnavailable, "fails.*boom"),
    (Reply("slow", status=429, retry_after=0.01), ModelUnavailable, "busy"),
    (Reply(body=b'{"choi'), ModelUnavailable, "fails"),
    (Reply(body=b"[]"), ModelError, "can't be read"),
    (Reply(body=b'{"choices": []}'), ModelError, "can't be read"),
    (Reply(body=b"<html>hello</html>"), ModelUnavailable, "fails"),
    (Reply("one two three", half=True), ModelUnavailable, "can't be reached"),
    (Reply(drop=True), ModelUnavailable, "can't be reached"),
    (Reply("  "), ModelError, "without any text"),
]


@pytest.mark.parametrize(("reply", "kind", "says"), FAILURES)
def test_every_failure_is_ours_and_says_what_to_do(
    asked: Ask, reply: Reply, kind: type[ModelError], says: str
) -> None:
    with (
        ScriptedServer(lambda _: reply) as server,
        pytest.raises(kind, match=f"(?s)model any .*{says}") as raised,
    ):
        asked(server)
    assert raised.type is kind
    assert len(server.requests) <= 3


def test_a_busy_server_is_asked_again(asked: Ask) -> None:
    script: list[Any] = [
        Reply("slow", status=429, retry_after=0.01),
        Reply("no", status=503),
        "Here.",
    ]
    with ScriptedServer(script) as server:
        assert asked(server) == "Here."


def test_a_server_that_hangs_is_given_up(asked: Ask) -> None:
    with (
        ScriptedServer([Reply("late", delay=30)]) as server,
        pytest.raises(ModelUnavailable, match="took too long"),
    ):
        asked(server, timeout_s=0.2)


def test_a_server_that_is_not_there_is_named(asked: Ask) -> None:
    with ScriptedServer() as server:
        pass
    with pytest.raises(ModelUnavailable, match="can't be reached"):
        asked(server)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((), "MNEMIC_MODEL"),
        (("gpt-4.1",), "openai:gpt-4.1"),
        ((":x",), "doesn't say who serves it"),
        (("",), "must not be empty"),
        ((3,), "not int"),
        ((FunctionModel,), "not ABCMeta"),
        (("x", "ftp://here"), "begins with http"),
        (("x", 3), "must be a string"),
        (("x", "http://here", ""), "must not be empty"),
    ],
)
def test_a_model_that_cannot_be_meant_is_refused(given: tuple[Any, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        choose_model(*given, settings=Settings())


@pytest.mark.parametrize("seconds", [0, -1, True, "5", float("nan"), float("inf"), None])
def test_a_time_out_is_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(InputError, match="time-out"):
        choose_model("x", "http://here", timeout_s=seconds)


def test_a_provider_that_is_not_known_or_has_no_key_is_named() -> None:
    with pytest.raises(InputError, match="nonsense"):
        choose_model("nonsense:x").complete("", "Well?", max_tokens=5)
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        choose_model("openai:gpt-x").complete("", "Well?", max_tokens=5)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'mnemic\[agent\]'"):
        choose_model("openai:gpt-x")


class Echo:
    name = "echo"

    def complete(self, system: str, prompt: str, *, max_tokens: int) -> str:
        return prompt[:max_tokens]


def test_a_model_of_ones_own_is_taken_as_it_is() -> None:
    mine: LanguageModel = Echo()
    assert choose_model(mine) is mine


def test_a_model_of_pydantic_ai_is_taken() -> None:
    def answer(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        return ModelResponse([TextPart(f"{len(messages[0].parts)} parts")])

    model = choose_model(FunctionModel(answer, model_name="made-here"))
    assert (model.name, model.complete("a", "b", max_tokens=5)) == ("made-here", "2 parts")


def test_a_task_of_another_loop_may_wait_without_deadlock(asked: Ask) -> None:
    async def main() -> str:
        return asked(server)  # blocks this loop, and not the one that the call needs

    with ScriptedServer(["Here."]) as server:
        assert asyncio.run(main()) == "Here."


def test_a_call_within_the_loop_of_calls_is_refused_and_not_awaited_for_ever(asked: Ask) -> None:
    with ScriptedServer() as server:

        async def nested() -> str:
            return asked(server)

        with pytest.raises(ModelError, match="from within its loop"):
            LOOP.run(nested, 10)


def test_threads_share_a_model() -> None:
    with ScriptedServer(lambda messages: messages[-1]["content"].upper()) as server:
        model = choose_model("any", server.url)

        def ask(number: int) -> str:
            return model.complete("", f"word {number}", max_tokens=5)

        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(ask, range(64)))
        assert isinstance(model, HostedModel)
        model.close()
    assert answers == [f"WORD {number}" for number in range(64)]


def test_a_closed_model_opens_again() -> None:
    with ScriptedServer(["One.", "Two."]) as server:
        model = choose_model("any", server.url)
        assert isinstance(model, HostedModel)
        assert model.complete("", "Well?", max_tokens=5) == "One."
        model.close()
        assert model.complete("", "Well?", max_tokens=5) == "Two."
        model.close()


def test_ctrl_c_ends_the_wait_and_the_call(asked: Ask) -> None:
    waiting = threading.Event()

    def script(_messages: Any) -> Reply:
        waiting.set()
        return Reply("late", delay=60)

    def interrupt() -> None:
        waiting.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    with ScriptedServer(script) as server:
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            asked(server)
        thread.join()


LIGHT = """
import sys
from mnemic.models.llm import choose_model
choose_model("openai:gpt-x"); choose_model("any", "http://127.0.0.1:9/v1")
print([name for name in ("pydantic_ai", "openai", "httpx", "httpx2") if name in sys.modules])
"""

LIFE = """
import os, sys, warnings
warnings.simplefilter("error")
from mnemic.models.llm import choose_model
model = choose_model("any", sys.argv[1])
print(model.complete("", "one", max_tokens=5), flush=True)
if len(sys.argv) > 2:
    warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, of a fork beside threads
    child = os.fork()
    print(model.complete("", "child" if child == 0 else "parent", max_tokens=5), flush=True)
    if child == 0:
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
    print(model.complete("", "again", max_tokens=5), flush=True)
"""


def run(code: str, *args: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", code, *args],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_choosing_a_model_loads_no_library() -> None:
    assert run(LIGHT)[0] == "[]\n"


def test_a_process_ends_without_a_word_though_nothing_was_closed() -> None:
    with ScriptedServer(lambda messages: messages[-1]["content"].upper()) as server:
        out, err = run(LIFE, server.url)
    assert out == "ONE\n"
    assert "ResourceWarning" not in err
    assert "Exception" not in err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_child_process_asks_on_connections_of_its_own() -> None:
    with ScriptedServer(lambda messages: messages[-1]["content"].upper()) as server:
        out, err = run(LIFE, server.url, "fork")
    assert sorted(out.split()) == ["AGAIN", "CHILD", "ONE", "PARENT"]
    assert "ResourceWarning" not in err
    assert "Traceback" not in err


def test_prompts_are_part_of_the_package() -> None:
    package = Path(importlib.util.find_spec("mnemic").submodule_search_locations[0])  # type: ignore[union-attr,index]
    for name in ("remember", "recall", "forget"):
        assert (package / "agent" / "prompts" / f"{name}.md").read_text("utf-8").strip()
