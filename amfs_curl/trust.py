"""The certificates that libcurl trusts: those of this system, unless others are named."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pycurl


class TrustedCertificates:
    """The certificates against which servers and proxies are checked.

    A build of libcurl may look for them in the wrong place, so AMFS names the
    place. `file` replaces
    those of the system; `fallback` names a file for a system that has none. A server may also
    have a certificate of `more`, and a proxy must have one of `proxy`; both are in PEM form. With
    `anybody`, no certificate of a server is checked.
    """

    def __init__(
        self,
        file: str | None = None,
        *,
        more: bytes | None = None,
        proxy: bytes | None = None,
        anybody: bool = False,
        fallback: Callable[[], str] | None = None,
    ) -> None:
        system = ssl.get_default_verify_paths()
        self._file = file or system.cafile
        self._directory = None if self._file else system.capath
        if not self._file and not self._directory and fallback is not None:
            self._file = fallback()
        self._all: bytes | None = None
        if more is not None:
            self._all = more + b"\n" + (Path(self._file).read_bytes() if self._file else b"")
        self._proxy = proxy
        self._anybody = anybody

    def give_to(self, handle: pycurl.Curl) -> None:
        """Make a handle trust them."""
        import pycurl

        if self._anybody:
            handle.setopt(pycurl.SSL_VERIFYPEER, 0)
            handle.setopt(pycurl.SSL_VERIFYHOST, 0)
        if self._all is not None:
            handle.setopt(pycurl.CAINFO_BLOB, self._all)
        elif self._file:
            handle.setopt(pycurl.CAINFO, os.fsencode(self._file))
        if self._directory:
            handle.setopt(pycurl.CAPATH, os.fsencode(self._directory))
        if self._proxy is not None:
            handle.setopt(pycurl.PROXY_CAINFO_BLOB, self._proxy)
        elif self._file:
            handle.setopt(pycurl.PROXY_CAINFO, os.fsencode(self._file))
        elif self._directory:
            handle.setopt(pycurl.PROXY_CAPATH, os.fsencode(self._directory))
