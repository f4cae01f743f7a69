"""The proxy on the way to an endpoint, if there is one."""

from __future__ import annotations

from urllib.parse import urlsplit


def proxy_of(url: str, setting: object = None) -> str | None:
    """Return the URL of the proxy for an endpoint's URL, or None.

    `setting`, what a user asked for, comes first, then `HTTPS_PROXY`, `HTTP_PROXY` and `ALL_PROXY`,
    unless `NO_PROXY` names the host; all of them in lower case too, as every Python program reads
    them.
    """
    if setting:
        return str(setting)
    import urllib.request  # slow, and asked once

    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")
