"""The command `amfs mcp`."""

from __future__ import annotations

import os
import signal
import sys

import click

from amfs.cli import output
from amfs.cli.options import Session
from amfs.cli.run import INTERRUPTED, Command


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

    tools = of_memory(session.memory())
    if sys.stdin.isatty():
        output.hint("a client such as Claude Code starts this command; Ctrl-C ends it")
    # A thread waits for standard input, and an orderly end would wait for that thread. Ending at
    # once loses nothing: what was answered is stored.
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    tools.run("stdio")
