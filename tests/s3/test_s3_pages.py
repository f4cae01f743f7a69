"""Pages of a listing as S3 may give them: fewer keys than asked for, none at all, and yet not the
last ("ListObjectsV2", Amazon S3 API reference: "The response might contain fewer keys")."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler

from amfs_s3 import S3Adapter
from tests.support.s3_store import Answer, answering


def page(keys: list[str], following: str | None) -> Answer:
    contents = "".join(
        f"<Contents><Key>amfs/{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f'<ETag>"x"</ETag><Size>3</Size><StorageClass>STANDARD</StorageClass></Contents>'
        for key in keys
    )
    more = f"<NextContinuationToken>{following}</NextContinuationToken>" if following else ""
    return Answer(
        200,
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>bucket</Name><Prefix>amfs/</Prefix><KeyCount>{len(keys)}</KeyCount>"
        f"<MaxKeys>1000</MaxKeys><IsTruncated>{str(following is not None).lower()}</IsTruncated>"
        f"{more}{contents}</ListBucketResult>",
        {"Content-Type": "application/xml"},
    )


def script(request: BaseHTTPRequestHandler) -> Answer:
    if "continuation-token=third" in request.path:
        return page(["b"], None)
    if "continuation-token=second" in request.path:
        return page([], "third")
    return page(["a"], "second")


def test_an_empty_page_does_not_end_a_listing() -> None:
    with answering(script) as address:
        adapter = S3Adapter(
            "bucket",
            endpoint_url=address,
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        assert [info.key for info in adapter.list("")] == ["a", "b"]
        adapter.close()
