"""obstore by itself: the client that AMFS stands on, with nothing of AMFS about it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import obstore
from objects import Objects
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store


class Peer(Objects):
    """A bucket."""

    package = "obstore"
    durability = "in the bucket"

    def __init__(self, place: dict[str, str]) -> None:
        super().__init__()
        self._store = S3Store(
            place["bucket"],
            config={
                "endpoint": place["endpoint_url"],
                "region": place["region"],
                "access_key_id": place["access_key"],
                "secret_access_key": place["secret_key"],
            },
            client_options={"allow_http": True, "timeout": timedelta(seconds=30)},
            retry_config={"max_retries": 0},
        )

    def put(self, name: str, data: bytes) -> bool:
        try:
            obstore.put(self._store, f"raw/{name}", data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    def get(self, name: str) -> bytes:
        return bytes(obstore.get(self._store, f"raw/{name}").bytes())

    def names(self, prefix: str) -> Iterable[str]:
        for page in obstore.list(self._store, f"raw/{prefix}".rstrip("/")):
            yield from (one["path"].removeprefix("raw/") for one in page)
