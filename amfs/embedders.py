"""Ready embedders: a local model by sentence-transformers, and any OpenAI-compatible endpoint.

Any callable from a list of texts to a list of vectors will do as well; see docs/search.md.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import tenacity

from amfs_core.errors import BackendUnavailableError, ConfigurationError, PermissionDeniedError

_OPENAI = "https://api.openai.com/v1"
_TRANSIENT = frozenset({408, 409, 429, 500, 502, 503, 504})


class SentenceTransformerEmbedder:
    """A model that runs in this process: `SentenceTransformerEmbedder("all-MiniLM-L6-v2")`.

    `model` is a name or a directory that sentence-transformers loads, or a `SentenceTransformer`.
    `device` is such as "cpu" or "cuda", by default what it finds. Needs the extra
    `sentence-transformers`.
    """

    def __init__(self, model: Any, *, name: str | None = None, device: str | None = None) -> None:
        if isinstance(model, str | os.PathLike):
            self.name = name or os.fspath(model)
            model = _sentence_transformers().SentenceTransformer(os.fspath(model), device=device)
        else:
            card = getattr(model, "model_card_data", None)
            self.name = name or str(getattr(card, "base_model", None) or type(model).__name__)
        self._model = model

    def __call__(self, texts: list[str]) -> Sequence[Sequence[float]]:
        """Return the vectors of texts."""
        vectors: Sequence[Sequence[float]] = self._model.encode(texts, show_progress_bar=False)
        return vectors


class OpenAIEmbedder:
    """A model behind an OpenAI-compatible endpoint (`POST <base_url>/embeddings`).

    `base_url` is that of OpenAI by default, or `OPENAI_BASE_URL`; `api_key` is `OPENAI_API_KEY` by
    default and may be missing where a server asks for none. `dimensions` asks for shorter vectors
    where the model can. One request per call, up to 256 texts in it; requests that fail in passing
    are tried again for up to `patience` seconds. Needs the extra `openai`.
    """

    def __init__(
        self,
        model: str = "text-embedding-3-small",
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        dimensions: int | None = None,
        timeout: float = 30.0,
        patience: float = 60.0,
    ) -> None:
        try:
            import httpx
        except ImportError as error:
            raise ConfigurationError(
                "OpenAIEmbedder needs its extra: pip install 'amfs[openai]'"
            ) from error
        self._url = (base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI).rstrip("/")
        self.name = f"{model}/{dimensions}" if dimensions else model
        self._body = {"model": model} | ({"dimensions": dimensions} if dimensions else {})
        key = api_key or os.environ.get("OPENAI_API_KEY")
        self._client = httpx.Client(
            timeout=timeout, headers={"Authorization": f"Bearer {key}"} if key else {}
        )
        self._patience = patience

    def __call__(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of texts.

        Raises `PermissionDeniedError`, `ConfigurationError` or, when patience ends,
        `BackendUnavailableError`. None of them has the key or the texts in it.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(BackendUnavailableError),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=10.0),
            stop=tenacity.stop_after_delay(self._patience),
            reraise=True,
        )
        # Some servers refuse an empty text; a space means as little.
        found: list[list[float]] = retrying(self._request, [text or " " for text in texts])
        return found

    def _request(self, texts: list[str]) -> list[list[float]]:
        import httpx

        where = f"{self._url}/embeddings"
        try:
            answer = self._client.post(where, json={**self._body, "input": texts})
        except httpx.TransportError as error:
            raise BackendUnavailableError(f"no answer from {where}: {error}") from error
        if answer.status_code in (401, 403):
            raise PermissionDeniedError(
                f"{where} refuses the key (status {answer.status_code})",
                hint="set OPENAI_API_KEY",
            )
        problem = f"{where} answers with status {answer.status_code}"
        if answer.status_code in _TRANSIENT:
            raise BackendUnavailableError(problem)
        if not answer.is_success:
            raise ConfigurationError(
                problem,
                hint=f"check base_url and the model {self.name!r}",
            )
        try:
            data = sorted(answer.json()["data"], key=lambda one: one["index"])
            return [one["embedding"] for one in data]
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{where} does not speak the embeddings API") from error


def _sentence_transformers() -> Any:
    try:
        import sentence_transformers
    except ImportError as error:
        raise ConfigurationError(
            "SentenceTransformerEmbedder needs its extra: pip install 'amfs[sentence-transformers]'"
        ) from error
    return sentence_transformers
