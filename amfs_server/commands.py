"""The commands `amfs serve` and `amfs key`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from amfs.cli.options import Session
from amfs.cli.output import plain
from amfs.cli.run import Command
from amfs_core.errors import ConfigurationError

_ROLES = ("reader", "writer", "eraser")


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs serve
  amfs --store s3://my-bucket/amfs/ serve --host 0.0.0.0 --keys keys.json
  curl http://127.0.0.1:8420/v1/default/memories
""",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port",
    default=8420,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="The port to listen at; 0 chooses a free one.",
)
@click.option("--keys", type=click.Path(path_type=Path), help="The file of keys (see amfs key).")
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="The directory that remembers events across restarts.",
)
@click.option("--origin", multiple=True, help="Allow browsers from this origin; may be repeated.")
@click.option(
    "--certificate", type=click.Path(path_type=Path), help="The certificate for TLS, a PEM file."
)
@click.option(
    "--private-key", type=click.Path(path_type=Path), help="The private key of the certificate."
)
@click.option("--log", is_flag=True, help="Log each request to stderr, as a line of JSON.")
@click.pass_obj
def serve(
    session: Session,
    *,
    host: str,
    port: int,
    keys: Path | None,
    state: Path | None,
    origin: tuple[str, ...],
    certificate: Path | None,
    private_key: Path | None,
    log: bool,
) -> None:
    """Serve the store over HTTP, for any client.

    Without --keys, the server is open to this machine only, and everybody on it may do everything.
    """
    from amfs.cli.user_cache import catalogs
    from amfs_server.run import serve as run
    from amfs_server.settings import Settings

    _log_to_stderr(requests=log)
    events = state if state is not None else _beside(catalogs())
    settings = Settings(
        config=session.settings(),
        adapter=session.open(session.store) if session.store is not None else None,
        keys=keys,
        origins=origin,
        state=events,
    )
    run(settings, host=host, port=port, certificate=certificate, private_key=private_key)


@click.group(
    epilog="""\b
Examples:
  amfs key new ci --role writer --path checkout-service --agent ci
  amfs key ls
  amfs key remove ci
"""
)
def key() -> None:
    """Create, list and remove keys for the server, in a file of their hashes."""


_file = click.option(
    "--keys",
    type=click.Path(path_type=Path),
    default=Path("keys.json"),
    show_default=True,
    help="The file of keys.",
)


@key.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs key new ci --role writer --namespace prod --path checkout-service --agent ci
""",
)
@click.argument("name")
@_file
@click.option(
    "--role",
    type=click.Choice(_ROLES),
    default="reader",
    show_default=True,
    help="What the key may do: read; also write and delete; also erase.",
)
@click.option(
    "--namespace",
    multiple=True,
    help="A namespace that the key sees; may be repeated. [default: all]",
)
@click.option(
    "--path",
    multiple=True,
    help="An entity path that the key sees; may be repeated. [default: all]",
)
@click.option("--agent", help="The agent that the key signs as.  [default: the client's choice]")
def new(
    name: str,
    *,
    keys: Path,
    role: str,
    namespace: tuple[str, ...],
    path: tuple[str, ...],
    agent: str | None,
) -> None:
    """Create a key and print it. This is the only time: the file keeps just its hash."""
    from amfs_server import keys as key_file

    if role not in _ROLES:
        raise ConfigurationError(f"there is no role {role!r}")
    token = key_file.add(
        keys,
        name,
        role,  # type: ignore[arg-type]
        namespaces=list(namespace) or None,
        entity_paths=list(path) or None,
        agent_id=agent,
    )
    click.echo(token)


@key.command(cls=Command)
@click.argument("name")
@_file
def remove(name: str, keys: Path) -> int:
    """Remove a key. A server that uses the file refuses the key from then on."""
    from amfs_server import keys as key_file

    if key_file.remove(keys, name):
        return 0
    click.echo(f"amfs: there is no key named {plain(name)}", err=True)
    return 1


@key.command(name="ls", cls=Command)
@_file
def ls(keys: Path) -> None:
    """List the keys: their names and rights."""
    from amfs.cli import output
    from amfs_server import keys as key_file

    rows = [
        (
            entry.name,
            entry.role,
            ", ".join(entry.namespaces or ()) or "all",
            ", ".join(entry.entity_paths or ()) or "all",
            entry.agent_id or "anybody",
        )
        for entry in key_file.read(keys)
    ]
    output.table(("name", "role", "namespaces", "entity paths", "signs as"), rows)


def _beside(catalogs: str | None) -> Path | None:
    return None if catalogs is None else Path(catalogs).parent / "events"


def _log_to_stderr(*, requests: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("amfs: %(message)s"))
    ours = logging.getLogger("amfs")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False  # libraries add handlers to the root logger
    access = logging.getLogger("amfs.access")
    access.propagate = False
    access.setLevel(logging.INFO if requests else logging.CRITICAL)
    if requests:
        plain_handler = logging.StreamHandler(sys.stderr)
        plain_handler.setFormatter(logging.Formatter("%(message)s"))
        access.addHandler(plain_handler)
