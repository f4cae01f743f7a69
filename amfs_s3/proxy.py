"""The proxy on the way to an endpoint, if there is one."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


def proxy_of(url: str, client_options: Mapping[str, Any]) -> str | None:
    """Return the URL of the proxy for an endpoint's URL, or None.

    `proxy_url` of the options comes first, then `HTTPS_PROXY`, `HTTP_PROXY` and `ALL_PROXY`, unless
    `NO_PROXY` names the host; all of them in lower case too, as every Python program reads them.
    """
    if given := client_options.get("proxy_url"):
        return str(given)
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")
