"""The command that prints a shell's completion script."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from amfs.cli import output
from amfs.cli.run import Command


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs completion bash >> ~/.bashrc
  amfs completion zsh >> ~/.zshrc
  amfs completion fish > ~/.config/fish/completions/amfs.fish
""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes amfs commands in SHELL."""
    completer = get_completion_class(shell)
    assert completer is not None  # the choices above are click's own
    script = completer(context.find_root().command, {}, "amfs", "_AMFS_COMPLETE").source()
    output.line(script)
