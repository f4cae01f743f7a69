"""What S3 answers to each request, and how to tell that from any other server's answer.

A redirect, a sign-in page of a network, a proxy or a server of another kind may answer in place of
S3, often with status 200. So an answer counts only if it has the form that the API reference
of Amazon S3 gives for that request: a PUT that was applied has an ETag and no body, an object comes
with its ETag and the time of its last change, a listing is a `ListBucketResult` of this bucket and
prefix. Anything else is `NotFromS3`: it proves nothing about what the bucket holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from html import unescape
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from amfs_core.storage import ObjectInfo
from amfs_curl import Answer

_OK, _NO_CONTENT = 200, 204
_ERROR = re.compile(rb"\s*(?:<\?xml[^>]*\?>)?\s*<Error[\s>]")
_FIELD = re.compile(r"<(Code|Message|Region|Endpoint)>([^<]*)</\1>")
_NAMESPACE = re.compile(r"\{[^}]*\}")
_PAGE_TYPES = ("text/html", "application/xhtml+xml")
_ALIASES = ("-s3alias", "--ol-s3")
_MOST_ERROR_BYTES = 64 * 1024
_SHOWN = 60


class NotFromS3(Exception):  # never raised to callers of the adapter
    """An answer that S3 would not give; the text says what came instead."""


def error_in(answer: Answer) -> Mapping[str, str] | None:
    """Return the fields of S3's own `<Error>` document, or None when the body is not one."""
    if not _ERROR.match(answer.body):
        return None
    text = answer.body[:_MOST_ERROR_BYTES].decode(errors="replace")
    return {name: unescape(content) for name, content in _FIELD.findall(text)}


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing, and the token of the next one; None on the last page."""

    objects: list[ObjectInfo]
    following: str | None


def require_applied(answer: Answer) -> None:
    """Raise `NotFromS3` unless this acknowledges a PUT ("PutObject": an ETag, no body)."""
    if answer.status != _OK or answer.body or not answer.headers.get("etag"):
        raise NotFromS3(answer.description)


def require_removed(answer: Answer) -> None:
    """Raise `NotFromS3` unless this acknowledges a DELETE ("DeleteObject": no body)."""
    if answer.status not in (_OK, _NO_CONTENT) or answer.body:
        raise NotFromS3(answer.description)


def object_in(answer: Answer) -> bytes:
    """Return the object that a GET was answered with ("GetObject")."""
    headers = answer.headers
    whole = (
        answer.status == _OK
        # Without either, the object would end wherever the connection does.
        and (headers.get("content-length") or "transfer-encoding" in headers)
        and headers.get("etag")
        and "last-modified" in headers
        and "content-range" not in headers
        and headers.get("content-encoding", "identity") in ("", "identity", "aws-chunked")
        and not headers.get("content-type", "").lower().startswith(_PAGE_TYPES)
    )
    if not whole:
        raise NotFromS3(answer.description)
    return answer.body


def page_in(answer: Answer, bucket: str, prefix: str, after: str) -> Page:
    """Return the page of a listing that a GET was answered with ("ListObjectsV2").

    Its keys are under the prefix, and the last of them comes after `after`: not every server sorts
    unusual names as S3 does, but a listing whose pages bring nothing new would never end. Every
    page but the last names the next.
    """
    if answer.status != _OK:
        raise NotFromS3(answer.description)
    try:
        # Parsed as text; otherwise the parser would trust the encoding that the document declares.
        text = answer.body.decode("utf-8-sig")
        if "<!DOCTYPE" in text:
            raise _Wrong("with a document type, which may make much of little")
        root = ElementTree.fromstring(text)
        return _page(root, bucket, prefix, after)
    except (ElementTree.ParseError, KeyError, ValueError, UnicodeError) as error:
        why = f" ({error})" if isinstance(error, _Wrong) else ""
        raise NotFromS3(f"{answer.description}{why}") from None


class _Wrong(ValueError):
    """A listing that contradicts itself or the request."""


def _page(root: ElementTree.Element, bucket: str, prefix: str, after: str) -> Page:
    if _tag(root) != "ListBucketResult":
        raise _Wrong(f"not a listing but <{_tag(root)}>")
    # The XML namespace in `{…}` is the same for all elements of an answer; some servers give none.
    space = root.tag[: -len("ListBucketResult")]
    encoded = root.findtext(f"{space}EncodingType") == "url"

    def plain(text: str | None) -> str:
        return unquote_plus(text or "", errors="strict") if encoded else text or ""

    name = root.findtext(f"{space}Name")
    if name not in (None, "", bucket) and not bucket.endswith(_ALIASES):
        raise _Wrong(f"of the bucket {name!r:.70}")
    listed = root.findtext(f"{space}Prefix")
    if listed is not None and prefix not in (listed, plain(listed)):
        raise _Wrong("of another prefix")
    objects: list[ObjectInfo] = []
    tags = (f"{space}Key", f"{space}Size", f"{space}LastModified")
    for content in root.iterfind(f"{space}Contents"):
        key, size, modified = (content.findtext(tag) for tag in tags)
        key = plain(key)
        if not key.startswith(prefix):
            raise _Wrong("with keys of another prefix")
        objects.append(ObjectInfo(key, int(size or ""), datetime.fromisoformat(modified or "")))
    if objects and max(info.key for info in objects) <= after:
        raise _Wrong("a page that was there before")
    match root.findtext(f"{space}IsTruncated"):
        case "false":
            return Page(objects, None)
        case "true":
            following = root.findtext(f"{space}NextContinuationToken")
            if not following:
                raise _Wrong("it goes on but does not say where")
            return Page(objects, following)
    raise _Wrong("it does not say whether it goes on")


def _tag(element: ElementTree.Element) -> str:
    return _NAMESPACE.sub("", element.tag)[:_SHOWN]
