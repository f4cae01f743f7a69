"""Which certificates are trusted: the system's or the profile's, and those in the options."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from amfs_core.errors import ConfigurationError
from amfs_curl import TrustedCertificates


def trust(ca_bundle: str | None, client_options: Mapping[str, Any]) -> ssl.SSLContext:
    """Return a context of Python's `ssl` that trusts the same certificates as the data path."""
    context = ssl.create_default_context(cafile=ca_bundle)
    # From Python 3.13 on it also holds private authorities to RFC 5280; libcurl does not.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if root := client_options.get("root_certificate"):
        context.load_verify_locations(cadata=root.decode() if isinstance(root, bytes) else root)
    if client_options.get("allow_invalid_certificates"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def trusted(ca_bundle: str | None, client_options: Mapping[str, Any]) -> TrustedCertificates:
    """Return the same for libcurl. `ConfigurationError` when the bundle has no certificates."""
    if ca_bundle:
        _require_certificates(ca_bundle)
    root = client_options.get("root_certificate")
    proxy = client_options.get("proxy_ca_certificate")
    return TrustedCertificates(
        ca_bundle,
        more=(root.encode() if isinstance(root, str) else root) or None,
        proxy=None if proxy is None else proxy.encode(),
        anybody=bool(client_options.get("allow_invalid_certificates")),
        fallback=_copy_of_mozillas,
    )


def _copy_of_mozillas() -> str:
    from botocore.httpsession import get_cert_path

    return str(get_cert_path(True))


def _require_certificates(path: str) -> None:
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigurationError(
            f"{path!r}, which AWS_CA_BUNDLE or ca_bundle in the profile names, has no certificates "
            "in PEM form"
        ) from error
