"""The command line. Each command's module is imported when the command is used."""

from __future__ import annotations

import click

from amfs.cli.options import Session
from amfs.cli.run import Program

_EPILOG = """\b
Examples:
  amfs write checkout-service retry-pattern '{"max_retries": 3}'
  amfs read checkout-service retry-pattern
  amfs --store s3://my-bucket/amfs/ ls
  amfs copy .amfs s3://my-bucket/amfs/

\b
Without --store the store comes from AMFS_STORE, AMFS_S3_BUCKET or amfs.yaml, or
is the directory .amfs. Exit codes: 0 done, 1 nothing there (or, for verify, health and
doctor, something is wrong), 2 an error.
"""


@click.group(cls=Program, epilog=_EPILOG)
@click.option(
    "--store",
    metavar="PLACE",
    help="Where the memories are: a directory, sqlite:///FILE, postgresql://…, s3://BUCKET/PREFIX, "
    "http://HOST:PORT.",
)
@click.option("--namespace", metavar="N", help="The namespace.  [default: default]")
@click.option("--agent", metavar="A", help="Who signs what is written.  [default: user@host]")
@click.option("--config", metavar="F", help="Configuration file, instead of amfs.yaml.")
@click.option("--no-cache", is_flag=True, help="Use no index, and keep no catalog.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document per line.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=Program.tell)
@click.pass_context
def amfs(
    context: click.Context,
    *,
    store: str | None,
    namespace: str | None,
    agent: str | None,
    config: str | None,
    no_cache: bool,
    as_json: bool,
) -> None:
    """Shared, versioned memory for agents whose only server is a bucket."""
    context.obj = Session(store, namespace, agent, config, as_json, no_cache)
    context.call_on_close(context.obj.close)
