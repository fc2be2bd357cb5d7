"""Choosing the embedder: the bundled model, unless the settings or the caller name another."""

from __future__ import annotations

from mnemic.models.embedder import Embedder
from mnemic.settings import Settings


def choose_embedder(settings: Settings) -> Embedder:
    """The embedder that the settings ask for; the model itself is loaded at first use."""
    if settings.embedder_url is not None:
        from mnemic.models.remote import RemoteEmbedder

        return RemoteEmbedder(
            settings.embedder_url, settings.embedder_model, key=settings.embedder_key
        )
    from mnemic.models.minilm import MiniLM

    return MiniLM()
