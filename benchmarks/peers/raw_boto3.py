"""boto3 by itself."""

from __future__ import annotations

from collections.abc import Iterable

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from objects import Objects


class Peer(Objects):
    """A bucket."""

    package = "boto3"
    durability = "in the bucket"

    def __init__(self, place: dict[str, str]) -> None:
        super().__init__()
        self._bucket = place["bucket"]
        self._client = boto3.client(
            "s3",
            endpoint_url=place["endpoint_url"],
            region_name=place["region"],
            aws_access_key_id=place["access_key"],
            aws_secret_access_key=place["secret_key"],
            config=Config(max_pool_connections=64, s3={"addressing_style": "path"}),
        )

    def put(self, name: str, data: bytes) -> bool:
        try:
            self._client.put_object(
                Bucket=self._bucket, Key=f"raw/{name}", Body=data, IfNoneMatch="*"
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in ("PreconditionFailed", "412"):
                return False
            raise
        return True

    def get(self, name: str) -> bytes:
        return self._client.get_object(Bucket=self._bucket, Key=f"raw/{name}")["Body"].read()

    def names(self, prefix: str) -> Iterable[str]:
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._bucket, Prefix=f"raw/{prefix}"):
            yield from (one["Key"].removeprefix("raw/") for one in page.get("Contents", []))
