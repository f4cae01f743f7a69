"""Which certificates are trusted: the system's or the profile's, and those in the options."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amfs_core.errors import ConfigurationError

if TYPE_CHECKING:
    import pycurl


def trust(ca_bundle: str | None, client_options: Mapping[str, Any]) -> ssl.SSLContext:
    """Return a context of Python's that trusts what the data path trusts."""
    context = ssl.create_default_context(cafile=ca_bundle)
    if root := client_options.get("root_certificate"):
        context.load_verify_locations(cadata=root.decode() if isinstance(root, bytes) else root)
    if client_options.get("allow_invalid_certificates"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class TrustedCertificates:
    """The same for libcurl, whose build may look for certificates where this system has none."""

    def __init__(self, ca_bundle: str | None, client_options: Mapping[str, Any]) -> None:
        if ca_bundle:
            _require_certificates(ca_bundle)
        system = ssl.get_default_verify_paths()
        self._file = ca_bundle or system.cafile
        self._directory = None if self._file else system.capath
        if not self._file and not self._directory:
            from botocore.httpsession import get_cert_path  # a copy of Mozilla's

            self._file = str(get_cert_path(True))
        self._anybody = bool(client_options.get("allow_invalid_certificates"))
        self._more: bytes | None = None
        if root := client_options.get("root_certificate"):
            own = root if isinstance(root, bytes) else root.encode()
            self._more = own + b"\n" + (Path(self._file).read_bytes() if self._file else b"")
        proxy = client_options.get("proxy_ca_certificate")
        self._proxy = None if proxy is None else proxy.encode()

    def give_to(self, handle: pycurl.Curl) -> None:
        """Have a handle trust them."""
        import pycurl

        if self._anybody:
            handle.setopt(pycurl.SSL_VERIFYPEER, 0)
            handle.setopt(pycurl.SSL_VERIFYHOST, 0)
        if self._more is not None:
            handle.setopt(pycurl.CAINFO_BLOB, self._more)
        elif self._file:
            handle.setopt(pycurl.CAINFO, os.fsencode(self._file))
        if self._directory:
            handle.setopt(pycurl.CAPATH, os.fsencode(self._directory))
        if self._proxy is not None:
            handle.setopt(pycurl.PROXY_CAINFO_BLOB, self._proxy)
        elif self._file:
            handle.setopt(pycurl.PROXY_CAINFO, os.fsencode(self._file))


def _require_certificates(path: str) -> None:
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigurationError(
            f"{path!r}, which AWS_CA_BUNDLE or ca_bundle in the profile names, has no certificates "
            "in PEM form"
        ) from error
