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
Without --store, the store comes from AMFS_STORE, AMFS_S3_BUCKET or amfs.yaml;
the default is the directory .amfs. Exit codes: 0 success, 1 nothing found (or a
problem reported by verify, health or doctor), 2 an error.
"""


@click.group(cls=Program, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--store",
    metavar="PLACE",
    help="The store to use: a directory, sqlite:///FILE, postgresql://…, s3://BUCKET/PREFIX or "
    "http://HOST:PORT.",
)
@click.option("--namespace", metavar="N", help="The namespace to use.  [default: default]")
@click.option("--agent", metavar="A", help="The agent that signs writes.  [default: user@host]")
@click.option("--config", metavar="F", help="The configuration file to use, not amfs.yaml.")
@click.option("--no-cache", is_flag=True, help="Use no index, and keep no catalog on disk.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document per line.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=Program.tell,
    help="Print the version of AMFS and exit.",
)
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
    """Shared, versioned memory for AI agents whose only server is a bucket."""
    context.obj = Session(store, namespace, agent, config, as_json, no_cache)
    context.call_on_close(context.obj.close)
