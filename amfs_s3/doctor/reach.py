"""The way to an endpoint, step by step: name, connection, TLS, the first answer, its clock."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import urllib3

from amfs_core.doctor import Diagnosis, ok, problem, skipped, warning
from amfs_curl import proxy_of
from amfs_s3.endpoint import Endpoint, virtual_host_url
from amfs_s3.trust import trust

_DAY = 24 * 3600.0
_EXPIRES_SOON = 14 * _DAY
_SKEW_WARNING, _SKEW_PROBLEM = 60.0, 300.0
_CHECK_ENDPOINT = "check endpoint_url (AMFS_S3_ENDPOINT, --config) and that the server is up"
_ANSWER_SECONDS = 5.0
_CERTIFICATE_HINTS = {
    9: "set the clock of the machine: the certificate is not valid yet",
    10: "renew the server's certificate",
    62: "name the host in endpoint_url as the certificate does, or get one for this name",
    64: "name the host in endpoint_url as the certificate does, or get one for this address",
}
"""By OpenSSL's code (X509_V_ERR_*, x509_vfy.h)."""


class Reach:
    """Looks at one endpoint. Each step uses what earlier steps have learned."""

    def __init__(self, endpoint: Endpoint, client_options: Mapping[str, Any]) -> None:
        self._endpoint = endpoint
        self._options = client_options
        self._url = virtual_host_url(endpoint) if endpoint.virtual_hosted else endpoint.url
        parts = urlsplit(self._url)
        self._host = parts.hostname or ""
        self._is_secure = parts.scheme == "https"
        self._port = parts.port or (443 if self._is_secure else 80)
        self._proxy = proxy_of(self._url, client_options.get("proxy_url"))
        self._date: str | None = None
        self._asked_at = 0.0

    def connect(self) -> Diagnosis:
        """Resolve the host and connect. Behind a proxy, the proxy does both."""
        shown = f"{self._endpoint.url} ({_origin(self._endpoint)})"
        if self._proxy:
            return ok(f"{shown}, through the proxy {self._proxy}")
        try:
            addresses = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as error:
            return problem(
                f"{shown}: the name {self._host!r} cannot be resolved ({error.strerror or error})",
                f"{_CHECK_ENDPOINT}; or the DNS of this machine",
            )
        started = time.monotonic()
        try:
            self._connection().close()
        except TimeoutError:
            seconds = self._endpoint.settings.connect_timeout
            return problem(f"{shown}: no connection within {seconds:g} s", _CHECK_ENDPOINT)
        except OSError as error:
            return problem(f"{shown}: no connection ({error.strerror or error})", _CHECK_ENDPOINT)
        took = (time.monotonic() - started) * 1000
        address = addresses[0][4][0]
        return ok(f"{shown}, {address} port {self._port}, connected in {took:.1f} ms")

    def secure(self) -> Diagnosis:
        """Shake hands, and read the certificate."""
        if not self._is_secure:
            return ok("none: requests and memories travel unencrypted")
        if self._proxy:
            return ok("not checked, as a proxy is in between")
        try:
            context = trust(self._endpoint.ca_bundle, self._options)
            with (
                self._connection() as raw,
                context.wrap_socket(raw, server_hostname=self._host) as wrapped,
            ):
                certificate, version = wrapped.getpeercert() or {}, wrapped.version()
        except ssl.SSLCertVerificationError as error:
            hint = "name the certificates of its authority with AWS_CA_BUNDLE"
            return problem(
                f"the certificate is not trusted: {error.verify_message}",
                _CERTIFICATE_HINTS.get(error.verify_code, hint),
            )
        except TimeoutError:
            return problem("no answer to the handshake", _CHECK_ENDPOINT)
        except OSError as error:  # ssl.SSLError is one
            reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
            return problem(
                f"the port does not speak TLS ({reason})", "use http:// there, or another port"
            )
        if context.verify_mode is ssl.CERT_NONE:
            return warning(
                f"{version}; the certificate is not checked",
                "remove allow_invalid_certificates; AWS_CA_BUNDLE trusts a private authority",
            )
        return _lifetime(certificate, version or "TLS")

    def ask(self) -> Diagnosis:
        """Send an unsigned request, which any S3 server refuses."""
        pool = self._pool()
        path = "" if self._endpoint.virtual_hosted else f"/{self._endpoint.settings.bucket}"
        started = time.monotonic()
        try:
            answer = pool.request("HEAD", f"{self._url}{path}", redirect=False, retries=False)
        except urllib3.exceptions.HTTPError as error:
            return problem(f"no HTTP answer ({type(error).__name__})", _CHECK_ENDPOINT)
        finally:
            pool.clear()
        took = time.monotonic() - started
        self._asked_at = time.time() - took / 2
        self._date = answer.headers.get("date")
        software = answer.headers.get("server", "")[:60] or "a server that does not say its name"
        return ok(f"{software}, answers in {took * 1000:.1f} ms")

    def compare_clocks(self) -> Diagnosis:
        """Compare the server's clock with this machine's."""
        try:
            there = parsedate_to_datetime(self._date or "")
        except ValueError:
            return skipped("the server does not say its time")
        if there.tzinfo is None:
            there = there.replace(tzinfo=UTC)
        skew = self._asked_at - there.timestamp()
        if -1 <= skew <= 2:  # the header has whole seconds
            return ok("this machine and the server agree")
        finding = f"this machine is {_duration(abs(skew))} {'ahead of' if skew > 0 else 'behind'} "
        finding += "the server"
        limit = "S3 refuses requests that are 15 minutes off (RequestTimeTooSkewed)"
        hint = f"set the clock of whichever is wrong (NTP); {limit}"
        if abs(skew) > _SKEW_PROBLEM:
            return problem(finding, hint)
        return warning(finding, hint) if abs(skew) > _SKEW_WARNING else ok(finding)

    def _connection(self) -> socket.socket:
        timeout = self._endpoint.settings.connect_timeout
        return socket.create_connection((self._host, self._port), timeout)

    def _pool(self) -> urllib3.PoolManager:
        connect = self._endpoint.settings.connect_timeout
        timeout = urllib3.Timeout(connect=connect, read=_ANSWER_SECONDS)
        context = trust(self._endpoint.ca_bundle, self._options) if self._is_secure else None
        if self._proxy:
            return urllib3.ProxyManager(self._proxy, timeout=timeout, ssl_context=context)
        return urllib3.PoolManager(timeout=timeout, ssl_context=context)


def _origin(endpoint: Endpoint) -> str:
    """Say where the URL comes from, in the order in which boto3 looks (AWS SDKs and tools reference
    guide, "Service-specific endpoints")."""
    if endpoint.settings.endpoint_url:
        return "endpoint_url of the configuration"
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if os.environ.get(name, "").rstrip("/") == endpoint.url:
            return name
    return "AWS, as none is named" if endpoint.is_aws else "the AWS profile"


def _lifetime(certificate: Mapping[str, Any], version: str) -> Diagnosis:
    expires = ssl.cert_time_to_seconds(certificate["notAfter"])
    left = expires - time.time()
    finding = f"{version}, certificate valid until {datetime.fromtimestamp(expires, UTC):%Y-%m-%d}"
    if left < _EXPIRES_SOON:
        return warning(f"{finding}, {_duration(left)} from now", "renew it soon")
    return ok(finding)


def _duration(seconds: float) -> str:
    for size, unit in ((_DAY, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
