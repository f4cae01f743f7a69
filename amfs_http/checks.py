"""The checks of `amfs doctor` for a store behind a server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from amfs_core.doctor import Check, Diagnosis, Trial, ok, problem
from amfs_core.errors import AMFSError

if TYPE_CHECKING:
    from amfs_http.adapter import HttpAdapter
    from amfs_http.client import Client

_ALIVE = b'{"alive":true}'
_READY, _NOT_READY = 200, 503


class HttpChecks:
    """The checks of one adapter, with its client."""

    def __init__(self, store: HttpAdapter, client: Client) -> None:
        self._store = store
        self._client = client

    def all(self) -> Iterator[Check]:
        """Yield the checks in order."""
        yield Check("server", self._find_server)
        yield Check("its store", self._ask_for_store, ("server",))
        yield from Trial(self._store, "", ("server", "its store")).checks()

    def _find_server(self) -> Diagnosis:
        try:
            answer = self._client.ask("/healthz")
        except AMFSError as error:
            return problem(error.problem, "start it with `amfs serve`, or name its URL")
        if answer.body.strip() != _ALIVE:
            return problem(
                f"{self._store.url} is not an AMFS server: {answer.description}",
                "name the URL of `amfs serve`",
            )
        return ok(f"{self._store.url} answers")

    def _ask_for_store(self) -> Diagnosis:
        answer = self._client.ask("/readyz")
        if answer.status == _READY:
            return ok("the server can use its store")
        if answer.status == _NOT_READY:
            return problem(
                "the server cannot use its store now", "run `amfs doctor` where the server runs"
            )
        return problem(f"something else answers /readyz: {answer.description}", "")
