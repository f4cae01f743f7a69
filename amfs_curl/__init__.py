"""HTTP requests by libcurl, for stores that are reached over a network.

Each request is whole and sent once: no redirect is followed, nothing is unpacked, nothing holds a
lock. A signal interrupts one, and a forked child makes connections of its own.

`amfs_curl.curl` has the requests. It needs pycurl, so whoever makes requests imports it by name;
the rest does without.
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
