"""A connection string of libpq, parsed without ever repeating its secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg
from psycopg import conninfo, pq

from amfs_core.errors import ConfigurationError

_SECRETS = ("password", "sslpassword", "oauth_client_secret")
_PORT = "5432"
_HINT = "it is postgresql://USER@HOST:PORT/DATABASE, or HOST=… DBNAME=… as libpq takes it"


@dataclass(frozen=True, slots=True)
class Dsn:
    """A parsed connection string. `text` and `parameters` may contain a password."""

    text: str = field(repr=False)
    parameters: Mapping[str, str] = field(repr=False)
    server: str
    """The public part: `HOST:PORT/DATABASE`, including libpq's variables."""

    @classmethod
    def parse(cls, dsn: object, option: str) -> Dsn:
        """Parse a connection string. Sends nothing. Raises `ConfigurationError`, without quoting
        it, if it is invalid."""
        if not isinstance(dsn, str):
            raise ConfigurationError(f"{option} must be text, not {type(dsn).__name__}")
        if not dsn.strip():
            raise ConfigurationError(f"{option} is empty", hint=_HINT)
        if "\0" in dsn:
            raise ConfigurationError(f"{option} has a NUL character, which no text of libpq has")
        try:
            parsed = conninfo.conninfo_to_dict(dsn)
        except (psycopg.Error, UnicodeError):
            # Not chained: the parser quotes what it could not parse, which may be the password.
            raise ConfigurationError(
                f"{option} is not a connection string of PostgreSQL", hint=_HINT
            ) from None
        parameters = {name: str(value) for name, value in parsed.items() if value is not None}
        return cls(dsn, parameters, _server(parameters))

    def redacted(self, text: str) -> str:
        """Return a text without the secrets of this connection string."""
        for name in _SECRETS:
            if secret := self.parameters.get(name):
                text = text.replace(secret, "…")
        return text


def _server(parameters: Mapping[str, str]) -> str:
    defaults = {
        option.keyword.decode(): option.val.decode(errors="replace")
        for option in pq.Conninfo.get_defaults()
        if option.val is not None
    }
    if "service" in parameters:  # the secrets of a file, which libpq reads when it connects
        defaults = {"host": f"service={parameters['service']}"}

    def value(name: str) -> str:
        return parameters.get(name) or defaults.get(name, "")

    hosts = (value("host") or value("hostaddr") or "localhost").split(",")
    ports = value("port").split(",")
    if len(ports) != len(hosts):
        ports = [ports[0]] * len(hosts)
    pairs = [f"{host}:{port or _PORT}" for host, port in zip(hosts, ports, strict=True)]
    return f"{','.join(pairs)}/{value('dbname') or value('user')}"
