"""The URL of a server or a proxy, checked before anything is sent there.

URLs may contain a password or a signature, so messages show only what `shown` returns.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

# RFC 3986, section 2, and what RFC 1123 allows a host's name to be.
_ALLOWED = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*")
_NAME = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)*"
    r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.?"
)
# A host whose last label is a number is an IPv4 address (WHATWG URL, "ends in a number").
_ENDS_IN_A_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?$")
_PORTS = range(1, 65_536)
_QUERY = re.compile(r"[?#].*", re.DOTALL)
_USER_INFO = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]*://)?).*@", re.DOTALL)


def shown(url: str) -> str:
    """Return a URL, even an invalid one, without its user, password, query and fragment."""
    return _USER_INFO.sub(r"\1", _QUERY.sub("", url))


def fault(url: str) -> str | None:
    """Return what is wrong with the URL of a server, as the rest of a sentence that begins with the
    URL; None when it is valid."""
    if not _ALLOWED.fullmatch(url):
        return "has a character that URLs do not allow; write it as %XX, or a host in its xn-- form"
    if not url.lower().startswith(("http://", "https://")):
        return "must begin with http:// or https://"
    if "?" in url or "#" in url:
        return "must end before the query (?…) or fragment (#…); no server has one"
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:  # brackets without an address in them
        return "has no valid address in its brackets"
    if not host:
        return "names no host"
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port is not None and port not in _PORTS:
        return "has a port that is not a number from 1 to 65535"
    if "%" in host or not (_is_name(host) or is_address(url)):  # for example in an IPv6 zone
        return "has a host that is neither a name nor an address"
    return None


def is_address(url: str) -> bool:
    """True when the host is an IP address and not a name."""
    try:
        ipaddress.ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return False
    return True


def _is_name(host: str) -> bool:
    if not _NAME.fullmatch(host) or _ENDS_IN_A_NUMBER.search(host):
        return False
    try:
        host.encode("ascii").decode("idna")
    except UnicodeError:  # the label is not a valid xn-- form
        return False
    return True
