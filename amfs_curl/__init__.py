"""HTTP requests through libcurl, for stores on a network.

Each request is complete and sent once: no redirect is followed, no body is decompressed, and no
lock is held. A signal can interrupt a request, and a forked child makes its own connections.

`amfs_curl.curl` makes the requests. It needs pycurl, so modules that make requests import it by
name; the others work without it.
"""

from amfs_curl.answer import Answer
from amfs_curl.proxy import proxy_of
from amfs_curl.trust import TrustedCertificates
from amfs_curl.url import fault, is_address, shown

__all__ = [
    "Answer",
    "TrustedCertificates",
    "fault",
    "is_address",
    "proxy_of",
    "shown",
]
