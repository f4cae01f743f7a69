"""minio-py by itself."""

from __future__ import annotations

import io
import urllib.parse
from collections.abc import Iterable

import urllib3
from minio import Minio
from objects import Objects
from thin import Cannot, Value


class Peer(Objects):
    """A bucket. Its put takes no condition, so it overwrites what another writer created."""

    package = "minio"
    durability = "in the bucket"

    def __init__(self, place: dict[str, str]) -> None:
        super().__init__()
        self._bucket = place["bucket"]
        endpoint = urllib.parse.urlsplit(place["endpoint_url"])
        self._client = Minio(
            endpoint.netloc,
            access_key=place["access_key"],
            secret_key=place["secret_key"],
            region=place["region"],
            secure=endpoint.scheme == "https",
            http_client=urllib3.PoolManager(maxsize=64),
        )

    def put(self, name: str, data: bytes) -> bool:
        self._client.put_object(self._bucket, f"raw/{name}", io.BytesIO(data), len(data))
        return True

    def get(self, name: str) -> bytes:
        answer = self._client.get_object(self._bucket, f"raw/{name}")
        try:
            return answer.read()
        finally:
            answer.close()
            answer.release_conn()

    def add_one(self, path: str, key: str) -> None:
        raise Cannot("no shared writers: its put takes no condition")

    def versions(self, path: str, key: str) -> list[Value]:
        raise Cannot("no shared writers: its put takes no condition")

    def names(self, prefix: str) -> Iterable[str]:
        found = self._client.list_objects(self._bucket, prefix=f"raw/{prefix}", recursive=True)
        yield from (one.object_name.removeprefix("raw/") for one in found if one.object_name)
