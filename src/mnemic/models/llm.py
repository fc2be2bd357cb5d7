"""Language models: the protocol of one that is asked for a text, and the choice of one by its name.

A hosted one is asked through pydantic-ai, on the loop of `loop.py`. Nothing of either is loaded before the
first call. Whatever goes wrong with a model is a `ModelError` that says what to do.
"""

from __future__ import annotations

import asyncio
import importlib.util
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, runtime_checkable

from mnemic.errors import InputError, MissingExtra, MnemicError, ModelError
from mnemic.forking import renew_in_child
from mnemic.inputs import kind_of, read_name, shown
from mnemic.models.failures import FOREIGN, as_ours
from mnemic.models.loop import LOOP
from mnemic.settings import Settings, from_environment

if TYPE_CHECKING:
    from pydantic_ai.models import Model

T = TypeVar("T")
Call = Callable[["Model"], Coroutine[Any, Any, T]]

# The most seconds that a call may take, retries included.
TIMEOUT_S = 120.0
MAX_TIMEOUT_S = 86_400.0
# The loop ends a call on time; who waits gives it this much longer, in which libraries may have to load.
GRACE_S = 30.0
# Prefixes that are no part of a model's name where a URL says where it is.
_OPENAI = ("openai:", "openai-chat:")
_inherited: list[object] = []


@runtime_checkable
class LanguageModel(Protocol):
    """A model that is asked for a text."""

    @property
    def name(self) -> str:
        """The model's name, as it is noted where its words are kept."""
        ...

    def complete(self, system: str, prompt: str, *, max_tokens: int) -> str:
        """Answer a prompt; raises `ModelError`."""
        ...


class HostedModel:
    """A language model that pydantic-ai can talk to; any number of threads may.

    `make` makes pydantic-ai's own at the first call. `timeout_s` bounds a call, retries included.
    """

    def __init__(
        self, name: str, make: Callable[[], Model], *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self._make = make
        self._key = object()
        self._model: asyncio.Task[Model] | None = None
        weakref.finalize(self, LOOP.close_now, self._key).atexit = False
        renew_in_child(self)

    def complete(self, system: str, prompt: str, *, max_tokens: int) -> str:
        """Answer a prompt; raises `ModelError`, also where the answer holds no text."""

        async def ask(model: Model) -> str:
            from pydantic_ai.direct import model_request
            from pydantic_ai.messages import ModelRequest, SystemPromptPart, UserPromptPart

            said = [SystemPromptPart(system)] if system else []
            request = ModelRequest([*said, UserPromptPart(prompt)])
            with asking(self.name):
                answer = await model_request(
                    model,
                    [request],
                    model_settings={"max_tokens": max_tokens, "request_timeout": self.timeout_s},
                    instrument=False,
                )
                return answer.text or ""

        text = self.run(ask, self.timeout_s).strip()
        if not text:
            raise ModelError(f"the language model {self.name} answered without any text")
        return text

    def run(self, call: Call[T], timeout_s: float) -> T:
        """Have something asked of pydantic-ai's model, and wait. Let `call` ask in a `with asking(...)`."""
        with waiting(self.name):
            return LOOP.run(partial(self._called, call), timeout_s + GRACE_S)

    def start(self, call: Call[T]) -> Future[T]:
        """The same without waiting; who waits for it does that in a `with waiting(...)`."""
        return LOOP.start(partial(self._called, call))

    def close(self) -> None:
        """Close the connections; a later call makes new ones."""
        self._model = None
        LOOP.close_now(self._key)

    def renew(self) -> None:
        """Let a child process make connections of its own."""
        _inherited.append(self._model)  # it shares them with the parent, which goes on using them
        self._model = None

    async def _called(self, call: Call[T]) -> T:
        if self._model is None:
            # One for all calls that come meanwhile; it isn't cancelled with the first of them.
            self._model = asyncio.ensure_future(_entered(self._make, self._key))
            self._model.add_done_callback(_noticed)
        opening = self._model
        try:
            with asking(self.name):
                model = await asyncio.shield(opening)
        except MnemicError:
            if self._model is opening:
                self._model = None  # the next call tries again
            raise
        return await call(model)


async def _entered(make: Callable[[], Model], key: object) -> Model:
    """Make a model, and hold its connections open until it or the loop is closed."""
    model = await asyncio.to_thread(make)  # it loads libraries, for seconds
    await model.__aenter__()
    LOOP.on_close(key, partial(model.__aexit__, None, None, None))
    return model


def _noticed(opening: asyncio.Task[Model]) -> None:
    """Who waited for it was told, unless nobody waits any more."""
    if not opening.cancelled():
        opening.exception()


def choose_model(
    model: object = None,
    base_url: str | None = None,
    api_key: str | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    settings: Settings | None = None,
) -> LanguageModel:
    """The language model of a name such as `openai:gpt-4.1-mini` or `anthropic:claude-haiku-4-5`.

    With `base_url`, whatever an OpenAI-compatible server there calls it (Ollama, vLLM, llama.cpp ...), and
    then no key is needed. A pydantic-ai `Model` and a `LanguageModel` are taken too. What isn't given is
    read from MNEMIC_MODEL, MNEMIC_MODEL_URL and MNEMIC_MODEL_KEY. Nothing is asked of the model.
    """
    known = settings or from_environment()
    if isinstance(model, LanguageModel) and not isinstance(model, str | type):
        return model
    _check_timeout(timeout_s)
    chosen = known.model if model is None else model
    if chosen is None:
        raise InputError(
            'name a language model, such as model="openai:gpt-4.1-mini", or set MNEMIC_MODEL'
        )
    require_agent_extra()
    if not isinstance(chosen, str):
        return HostedModel(_name_of(chosen), lambda: cast("Model", chosen), timeout_s=timeout_s)
    name = read_name(chosen, "model").strip()
    url = known.model_url if base_url is None else read_name(base_url, "base_url").strip()
    key = known.model_key if api_key is None else read_name(api_key, "api_key").strip()
    if url is not None:
        return HostedModel(
            name, partial(_served, name, _checked_url(url), key), timeout_s=timeout_s
        )
    provider, colon, rest = name.partition(":")
    if not (provider and colon and rest):
        raise InputError(
            f"{shown(name)} doesn't say who serves it; write openai:{name} (or anthropic:, google: ...), or"
            " give the URL of an OpenAI-compatible server as base_url or MNEMIC_MODEL_URL"
        )
    return HostedModel(name, partial(_provided, name, key), timeout_s=timeout_s)


def require_agent_extra() -> None:
    """Raise `MissingExtra` where pydantic-ai isn't installed; loads nothing."""
    if importlib.util.find_spec("pydantic_ai") is None:
        raise MissingExtra("a language model needs: pip install 'mnemic[agent]'")


@contextmanager
def asking(name: str) -> Iterator[None]:
    """Raise what goes wrong with a request to a model as one of our errors."""
    try:
        yield
    except MnemicError:
        raise
    except FOREIGN as error:
        raise as_ours(name, error) from error


@contextmanager
def waiting(name: str) -> Iterator[None]:
    """Raise that a call took too long, or was cancelled, as one of our errors."""
    try:
        yield
    except (CancelledError, TimeoutError) as error:
        raise as_ours(name, error) from error


def _check_timeout(seconds: Any) -> None:
    fits = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not fits or not 0 < seconds <= MAX_TIMEOUT_S:
        raise InputError(
            f"the time-out must be seconds, more than 0 and at most {MAX_TIMEOUT_S:,.0f}"
        )


def _name_of(given: Any) -> str:
    """The name of a pydantic-ai model; raises `InputError` for anything else."""
    name = getattr(given, "model_name", None)
    if isinstance(given, type) or not isinstance(name, str) or not hasattr(given, "request"):
        raise InputError(
            "a model is a name such as openai:gpt-4.1-mini, a pydantic-ai `Model` or a `LanguageModel`,"
            f" not {kind_of(given)}"
        )
    return name


def _checked_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise InputError(f"a model's URL begins with http:// or https://, not {shown(url)}")
    return url.rstrip("/").removesuffix("/chat/completions")


def _served(name: str, url: str, key: str | None) -> Model:
    """A model behind an OpenAI-compatible URL."""
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.profiles.openai import OpenAIModelProfile
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    for prefix in _OPENAI:
        name = name.removeprefix(prefix)
    # The older names of things, which servers other than OpenAI's understand.
    profile = OpenAIModelProfile(
        openai_chat_supports_max_completion_tokens=False,
        openai_supports_strict_tool_definition=False,
    )
    provider = OpenAICompatibleProvider("server", base_url=url, api_key=key, profile=profile)
    return OpenAIChatModel(name, provider=provider)


def _provided(name: str, key: str | None) -> Model:
    """A model of a provider that pydantic-ai knows; without a key, that provider's own variable has it."""
    from pydantic_ai.models import infer_model
    from pydantic_ai.providers import infer_provider_class

    def provider_of(kind: str) -> Any:
        made: Any = infer_provider_class(kind)
        return made(api_key=key)

    try:
        return infer_model(name) if key is None else infer_model(name, provider_of)
    except ValueError as error:
        raise InputError(f"{error}; the part before the colon names a provider") from None
