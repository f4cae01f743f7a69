"""Which certificates are trusted: the system's, the profile's, and those given to obstore."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any


def trust(ca_bundle: str | None, client_options: Mapping[str, Any]) -> ssl.SSLContext:
    """Return a context that trusts what the data path trusts."""
    context = ssl.create_default_context(cafile=ca_bundle)
    if root := client_options.get("root_certificate"):
        context.load_verify_locations(cadata=root.decode() if isinstance(root, bytes) else root)
    if client_options.get("allow_invalid_certificates"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
