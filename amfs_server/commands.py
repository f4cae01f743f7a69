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
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    default=8420,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="0: any free one.",
)
@click.option("--keys", type=click.Path(path_type=Path), help="File of keys (see amfs key).")
@click.option("--state", type=click.Path(path_type=Path), help="Where events are remembered.")
@click.option("--origin", multiple=True, help="Where browsers may come from; may be repeated.")
@click.option("--certificate", type=click.Path(path_type=Path), help="For TLS, a PEM file.")
@click.option("--private-key", type=click.Path(path_type=Path), help="Its private key.")
@click.option("--log", is_flag=True, help="Write a line of JSON to stderr for each request.")
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

    Without --keys it serves this machine only, and everybody on it may do everything.
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
    """Make and remove keys of the server, in a file of their hashes."""


_file = click.option(
    "--keys",
    type=click.Path(path_type=Path),
    default=Path("keys.json"),
    show_default=True,
    help="The file.",
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
@click.option("--role", type=click.Choice(_ROLES), default="reader", show_default=True)
@click.option("--namespace", multiple=True, help="That it sees; may be repeated. None: all.")
@click.option("--path", multiple=True, help="Entity path that it sees; likewise.")
@click.option("--agent", help="Who it signs as. None: whom the client says.")
def new(
    name: str,
    *,
    keys: Path,
    role: str,
    namespace: tuple[str, ...],
    path: tuple[str, ...],
    agent: str | None,
) -> None:
    """Make a key and print it, this once: the file keeps its hash only."""
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
    """Remove a key. A server that uses the file refuses it from then on."""
    from amfs_server import keys as key_file

    if key_file.remove(keys, name):
        return 0
    click.echo(f"amfs: there is no key named {plain(name)}", err=True)
    return 1


@key.command(name="ls", cls=Command)
@_file
def ls(keys: Path) -> None:
    """List the keys: names and what they may do."""
    from amfs.cli import output
    from amfs_server import keys as key_file

    rows = [
        (
            one.name,
            one.role,
            ", ".join(one.namespaces or ()) or "all",
            ", ".join(one.entity_paths or ()) or "all",
            one.agent_id or "anybody",
        )
        for one in key_file.read(keys)
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
    ours.propagate = False  # libraries give the root logger handlers of their own
    access = logging.getLogger("amfs.access")
    access.propagate = False
    access.setLevel(logging.INFO if requests else logging.CRITICAL)
    if requests:
        plain_handler = logging.StreamHandler(sys.stderr)
        plain_handler.setFormatter(logging.Formatter("%(message)s"))
        access.addHandler(plain_handler)
