"""What goes wrong with a language model, as one of our errors that says what to do.

pydantic-ai sorts what the providers' clients raise; what it lets through is sorted by its kind here.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError

from mnemic.errors import (
    InputError,
    MissingExtra,
    MnemicError,
    ModelError,
    ModelRefused,
    ModelUnavailable,
)

# What pydantic-ai and a provider's client raise: its own errors are RuntimeErrors, and an answer in an
# unknown form makes any of the others. Not an interrupt, and not what a cancelled task is told.
FOREIGN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
_SHOWN = 300
Kinds = tuple[type[BaseException], ...]


def as_ours(name: str, error: BaseException) -> MnemicError:
    """The error to raise instead of what a model's client raised."""
    model = f"the language model {name}"
    says = _says(error)
    if isinstance(error, CancelledError):
        return ModelUnavailable(f"the call of {model} was cancelled")
    if isinstance(error, ImportError):
        return MissingExtra(f"{model} needs another package: {says}")
    for kinds, ours, why in _known():
        if isinstance(error, kinds):
            return ours(f"{model} {why}" + (f" ({says})" if says else ""))
    return ModelError(f"{model} answered in a form that can't be read ({says})")


def _known() -> Iterator[tuple[Kinds, type[MnemicError], str]]:
    """What pydantic-ai raises, the particular before the general: ours for it, and what to do."""
    from pydantic_ai import exceptions as theirs

    yield (
        (theirs.UserError,),
        InputError,
        "can't be used as it is named; MNEMIC_MODEL_KEY is for its key",
    )
    yield (
        (theirs.ModelAuthenticationError,),
        ModelRefused,
        "refuses the key; set MNEMIC_MODEL_KEY, or the provider's own variable, to a valid one",
    )
    yield (
        (theirs.ModelQuotaExceededError,),
        ModelRefused,
        "refuses, because a quota is used up; look at the account",
    )
    yield (
        (theirs.ModelContextWindowExceededError,),
        ModelRefused,
        "takes no prompt as long as this; ask with a smaller budget",
    )
    yield (
        (theirs.ModelNotFoundError,),
        ModelRefused,
        "isn't known where it was asked for; check its name, and the URL, which mostly ends in /v1",
    )
    yield (
        (theirs.ContentFilterError,),
        ModelRefused,
        "answered nothing, since its provider's filter held it back",
    )
    yield (theirs.ModelRequestRejectedError,), ModelRefused, "refuses the request"
    yield (
        (theirs.ModelRequestTimeout, theirs.ModelTimeoutError, TimeoutError),
        ModelUnavailable,
        "took too long; try again, or give it more time",
    )
    yield (
        (theirs.ModelConnectionError, OSError),
        ModelUnavailable,
        "can't be reached, or the connection was lost; is its server up, and the URL right?",
    )
    yield (
        (theirs.ModelRateLimitError, theirs.ModelUnavailableError),
        ModelUnavailable,
        "is busy; try again in a while",
    )
    yield (theirs.ModelAPIError,), ModelUnavailable, "fails"


def _says(error: BaseException) -> str:
    """What an error says, short and in a line; of an answer's body, its message."""
    body = getattr(error, "body", None)
    status = getattr(error, "status_code", None)
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        text = body["message"]
    elif isinstance(status, int) and body:
        text = str(body)
    else:
        text = str(error).partition(" To try Pydantic AI")[0]
    text = " ".join(text.split()) or type(error).__name__
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return f"HTTP {status}: {text}" if isinstance(status, int) else text
