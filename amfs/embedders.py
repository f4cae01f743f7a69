"""Ready-made embedders: a local model by sentence-transformers, and OpenAI-compatible endpoints.

Any callable from a list of texts to a list of vectors works as well; see docs/search.md.
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

    `model` is a name or a directory for sentence-transformers to load, or a `SentenceTransformer`.
    `name` is what the vectors are stored under, by default the name of the model. `device` is a
    device such as "cpu" or "cuda"; sentence-transformers chooses the default. Needs the extra
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

    Args:
        model: The name of the model.
        base_url: The endpoint. Default: `OPENAI_BASE_URL`, or else OpenAI's.
        api_key: The key, if the server requires one. Default: `OPENAI_API_KEY`.
        dimensions: The length of the vectors, for models that can shorten them.
        timeout: Seconds to wait for one answer.
        patience: For how many seconds to repeat a request that fails temporarily.

    Raises:
        ConfigurationError: The extra `openai` is not installed.

    Cost:
        One request for each call, with up to 256 texts.
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

        Raises `PermissionDeniedError`, `ConfigurationError` or, when the patience ends,
        `BackendUnavailableError`. The errors never contain the key or the texts.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(BackendUnavailableError),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=10.0),
            stop=tenacity.stop_after_delay(self._patience),
            reraise=True,
        )
        # Some servers refuse an empty text; a space carries no more meaning.
        vectors: list[list[float]] = retrying(self._request, [text or " " for text in texts])
        return vectors

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
            data = sorted(answer.json()["data"], key=lambda item: item["index"])
            return [item["embedding"] for item in data]
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
