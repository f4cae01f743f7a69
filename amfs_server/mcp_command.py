"""The command `amfs mcp`."""

from __future__ import annotations

import click

from amfs.cli.options import Session
from amfs.cli.run import Command


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs mcp
  amfs --store s3://my-bucket/amfs/ --namespace team --agent claude mcp
""",
)
@click.pass_obj
def mcp(session: Session) -> None:
    """Serve the memory to a model with the Model Context Protocol over standard input and output.

    Enter this command in the configuration of a client such as Claude Code, Cursor or VS Code.
    """
    from amfs_server.tools import of_memory

    of_memory(session.memory()).run("stdio")
