"""`HttpAdapter`: a store that is reached through an AMFS server."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from amfs_core import arguments, fork
from amfs_core.errors import AMFSError, ConfigurationError
from amfs_core.parallel import until_failure
from amfs_core.storage import Capabilities, ObjectInfo, StorageAdapter
from amfs_curl import fault, shown
from amfs_http.client import Client

if TYPE_CHECKING:
    from amfs_core.doctor import Check

_AT_ONCE = 100
"""Keys in one request for many objects."""

_THREADS = 8
_API_KEY = re.compile(r"[!-~]+")
_PORTS = {"http": 80, "https": 443}


class HttpAdapter(StorageAdapter):
    """Keeps objects in the store of an AMFS server (`amfs serve`).

    `url` is the server's, such as `https://memory.example.com`; `api_key` is the key that `amfs key
    new` printed; when the configuration opens the store, it comes from the variable `AMFS_API_KEY`.
    The key's rights apply: objects that it may not see are refused, and it signs its writes as its
    agent. A request takes at most `timeout` seconds, and connecting at most `connect_timeout`.

    Sends nothing until it is used. Needs the extra `http`. Raises `ConfigurationError`.
    """

    backend_type = "http"
    capabilities = Capabilities(location=True, checks=True)
    timeout: float

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 10.0,
        connect_timeout: float = 3.0,
    ) -> None:
        self.url = _checked(url)
        self._api_key = _checked_key(api_key or None)
        self.timeout = arguments.timeout(timeout, "timeout")
        self.connect_timeout = arguments.timeout(connect_timeout, "connect_timeout")
        # Imported now, because a signal handler could interrupt a later import.
        self._client = self._made()
        fork.register(self)

    def after_fork(self) -> None:
        """Connect again in a forked child, and leave the parent's connections alone."""
        fork.keep_forever(self._client)
        self._client = self._made()

    @property
    def location(self) -> str:
        """The server, and a mark of the key, because another key may see other objects there."""
        mark = hashlib.sha256((self._api_key or "").encode()).hexdigest()[:12]
        return f"{self.url}/objects#{mark}"

    def create(self, key: str, data: bytes) -> bool:
        """Create the object if there is none. 1 request."""
        return self._client.create(key, data)

    def get(self, key: str) -> bytes | None:
        """Return the object's bytes, or None when there is no such object. 1 request."""
        return self._client.get(key)

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield `(key, bytes or None)`: 1 request for each 100 keys, more for large objects."""
        remaining = iter(keys)
        first = list(islice(remaining, 2))
        if len(first) == 1:
            yield first[0], self.get(first[0])
            return
        wanted = chain(first, remaining)
        batches = iter(lambda: list(islice(wanted, _AT_ONCE)), [])
        for done in until_failure(self._get_all, batches, _THREADS, AMFSError):
            yield from done.result().items()

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects under a prefix in byte order. 1 request per 1,000 objects."""
        after: str | None = start_after
        while after is not None:
            page, after = self._client.page(prefix, after)
            yield from page

    def replace(self, key: str, data: bytes) -> None:
        """Write the object, replacing an existing one. 1 request."""
        self._client.put(key, data)

    def delete(self, key: str) -> None:
        """Remove the object if there is one. 1 request."""
        self._client.delete(key)

    def checks(self) -> Iterator[Check]:
        """Yield what `amfs doctor` looks at: about 15 requests; a scratch object is removed."""
        from amfs_http.checks import HttpChecks

        return HttpChecks(self, self._client).all()

    def close(self) -> None:
        """Close the idle connections. The next operation would connect again."""
        self._client.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(
            HttpAdapter,
            api_key=self._api_key,
            timeout=self.timeout,
            connect_timeout=self.connect_timeout,
        ), (self.url,)

    def __repr__(self) -> str:
        return f"HttpAdapter({self.url!r})"

    def _made(self) -> Client:
        return Client(self.url, self._api_key, self.timeout, self.connect_timeout)

    def _get_all(self, keys: Sequence[str]) -> dict[str, bytes | None]:
        bodies: dict[str, bytes | None] = {}
        pending = keys
        while pending:
            bodies.update(self._client.get_many(pending))
            pending = [key for key in pending if key not in bodies]
        return bodies


def _checked(url: object) -> str:
    """Return the URL without a slash at its end; `ConfigurationError` for any other."""
    if not isinstance(url, str):
        raise ConfigurationError(f"url must be text, not {type(url).__name__}")
    if problem := fault(url):
        raise ConfigurationError(f"url {shown(url)!r} {problem}")
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            f"remove the credentials from the url {shown(url)!r}", hint="AMFS_API_KEY has the key"
        )
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = parts.port or _PORTS[parts.scheme]
    return f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"


def _checked_key(api_key: object) -> str | None:
    if api_key is None:
        return None
    if not isinstance(api_key, str) or not _API_KEY.fullmatch(api_key):
        raise ConfigurationError(
            "the API key is not one line of ASCII without spaces", hint="amfs key new makes one"
        )
    return api_key
