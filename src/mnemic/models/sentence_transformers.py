"""An embedder on the sentence-transformers library, for any model that it loads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnemic.errors import EmbedderUnavailable, MissingExtra


class SentenceTransformerEmbedder:
    """A model by its name or folder, as `SentenceTransformer(model)` takes it.

    Needs `pip install 'mnemic[sentence-transformers]'`; the library may download the model. It is
    loaded here, so that its dimensions are known.
    """

    def __init__(self, model: str, **options: Any) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise MissingExtra(
                "this embedder needs: pip install 'mnemic[sentence-transformers]'"
            ) from None
        try:
            self._model = SentenceTransformer(model, **options)
        except (OSError, ValueError) as error:
            raise EmbedderUnavailable(f"can't load {model!r}: {error}") from error
        self.name = f"sentence-transformers/{model}"
        self.dimensions = int(self._model.get_sentence_embedding_dimension() or 0)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector a text, shape `(len(texts), dimensions)`.

        A text at a time, since padding a batch changes a text's vector with its batch mates.
        """
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            encoded = self._model.encode([text], normalize_embeddings=True, show_progress_bar=False)
            vectors[row] = np.asarray(encoded, dtype=np.float32)[0]
        return vectors
