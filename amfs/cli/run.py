"""The program: its commands, and how each of them ends."""

from __future__ import annotations

import importlib
import keyword
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from amfs.cli import streams
from amfs.cli.options import Session
from amfs.cli.output import plain

COMMANDS = {
    "write": ("write", "Write a new version of a memory."),
    "read": ("read", "Print the newest version of a memory."),
    "ls": ("read", "List memories."),
    "namespaces": ("read", "List the namespaces of the store."),
    "search": ("search", "Find memories by their words."),
    "watch": ("watch", "Show new versions as they arrive."),
    "log": ("read", "Show the history of a memory."),
    "diff": ("read", "Show what changed between two versions."),
    "rm": ("write", "Delete a memory; its history stays."),
    "purge": ("write", "Erase the contents of a memory permanently."),
    "outcome": ("outcome", "Record what came of using memories."),
    "outcomes": ("outcome", "List outcomes."),
    "import": ("transfer", "Import memories from lines of JSON or from another system."),
    "export": ("transfer", "Print memories as lines of JSON."),
    "copy": ("transfer", "Copy a store to another one, byte for byte."),
    "backup": ("backup", "Make, list, restore and prune backups."),
    "tend": ("tend", "Maintain a namespace, once or repeatedly."),
    "stats": ("upkeep", "Count memories, versions and bytes."),
    "verify": ("upkeep", "Check every version, chain and outcome."),
    "conflicts": ("reconcile", "List the writes of an outage that could not be replayed."),
    "reconcile": ("reconcile", "Replay the writes of an outage, and decide about conflicts."),
    "health": ("upkeep", "Check whether the store can be read now."),
    "doctor": ("doctor", "Diagnose problems with a store and suggest fixes."),
    "serve": ("amfs_server.commands", "Serve the store over HTTP."),
    "key": ("amfs_server.commands", "Create and remove keys for the server."),
    "mcp": ("amfs_server.mcp_command", "Serve the memory to a model over stdio."),
    "mount": ("amfs_agents.mount.command", "Show the memories as files in a directory."),
    "completion": ("completion", "Print the script for shell completion."),
}
"""Each command's module and its line of help. The module is in `amfs.cli` unless its name has a
dot. The help is here so that `--help` need not import the modules."""

_EXTRAS = {"serve": "server", "key": "server", "mcp": "mcp", "mount": "mount", "tend": "server"}

_OTHER_NAMES = {
    **dict.fromkeys(("get", "cat", "show"), "read"),
    **dict.fromkeys(("put", "set", "add"), "write"),
    **dict.fromkeys(("delete", "del", "remove"), "rm"),
    **dict.fromkeys(("list", "dir"), "ls"),
    "history": "log",
    "erase": "purge",
    "find": "search",
    "restore": "backup restore",
    "help": "--help",
}
"""What other programs call the same thing."""

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
BROKEN_PIPE = 141  # 128 + SIGPIPE


class Command(click.Command):
    """A command that also accepts `--json` after its name, where it reads better."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--json"],
                is_flag=True,
                expose_value=False,
                callback=_want_json,
                help="Print one JSON document per line.",
            )
        )


def _want_json(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        context.ensure_object(Session).json = True


class Program(click.Group):
    """Finds commands, and turns errors into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which the help lists them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        name = COMMANDS[cmd_name][0]
        try:
            module = importlib.import_module(name if "." in name else f"amfs.cli.{name}")
        except ModuleNotFoundError as error:
            raise _missing(cmd_name, error) from error
        command = getattr(module, cmd_name + "_" if keyword.iskeyword(cmd_name) else cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names, or suggest a similar one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if args[0].startswith("-"):
                raise
            from amfs_core.spelling import did_you_mean

            other = _OTHER_NAMES.get(args[0])
            meant = f"; did you mean {other!r}?" if other else did_you_mean(args[0], COMMANDS)
            raise click.UsageError(f"there is no command {args[0]!r}{meant}", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands' lines of help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    @staticmethod
    def tell(context: click.Context, _: click.Parameter, wanted: bool) -> None:
        """Print the version and exit."""
        if wanted:
            from amfs import __version__

            click.echo(f"amfs {__version__}")
            context.exit()

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and flush its output."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader, such as `head`, has seen enough
            _discard_output()
            return BROKEN_PIPE
        except ModuleNotFoundError as error:
            if ctx.invoked_subcommand not in _EXTRAS or (error.name or "").startswith("amfs"):
                raise
            raise _missing(ctx.invoked_subcommand, error) from error
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run and exit: 0 success, 1 nothing found, 2 an error (printed as one line on stderr)."""
        streams.prepare()
        if sys.stdout is None:
            # Going on silently would lose an export, or write without confirming the write.
            sys.exit(_fail("standard output is closed; to discard it, send it to /dev/null"))
        sys.exit(self._run(args, prog_name or "amfs", complete_var, extra))

    def _run(
        self,
        args: Sequence[str] | None,
        prog_name: str,
        complete_var: str | None,
        extra: dict[str, Any],
    ) -> int:
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return 2
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else prog_name
            return _fail(f"{_usage_problem(error)} (see '{path} --help')")
        except click.ClickException as error:
            return _fail(error.format_message())
        except (click.Abort, KeyboardInterrupt):
            return INTERRUPTED
        except OSError as error:
            name = f"{error.filename!r}: " if error.filename else ""
            return _fail(f"{name}{error.strerror or error}")
        except Exception as error:
            return _failed(error)
        return code if isinstance(code, int) else 0


def _usage_problem(error: click.UsageError) -> str:
    """Return what is wrong with a command line, with the hint that click cannot know."""
    context = error.ctx
    if isinstance(error, click.NoSuchOption) and context is not None and context.parent is not None:
        name = error.option_name
        before = {option for of in context.find_root().command.params for option in of.opts}
        if name in before:
            return f"{name} comes before the command: amfs {name} … {context.info_name}"
        if not name.startswith("--") and any(
            isinstance(of, click.Argument) for of in context.command.params
        ):
            return f"there is no option {name}; put -- before an argument that begins with a dash"
    if isinstance(error, click.MissingParameter) and context is not None and error.param:
        entity, slash, key = str(context.params.get("entity") or "").rpartition("/")
        if error.param.name == "key" and slash and entity and key:
            return (
                f"the KEY is missing; did you mean {context.command_path} "
                f"{shlex.quote(entity)} {shlex.quote(key)}?"
            )
    return error.format_message()


def _missing(command: str, error: ModuleNotFoundError) -> click.ClickException:
    extra = _EXTRAS.get(command, "cli")
    package = (error.name or "something").partition(".")[0]
    return click.ClickException(
        f"amfs {command} needs {package}, which is not installed: pip install 'amfs[{extra}]'"
    )


def _failed(error: Exception) -> int:
    from amfs_core.errors import AMFSError

    if not isinstance(error, AMFSError):
        traceback.print_exc()
        return _fail(f"this is a bug in amfs, please report it: {type(error).__name__}: {error}")
    return _fail(str(error))


def _fail(problem: str) -> int:
    print(f"amfs: {plain(' '.join(problem.split()))}", file=sys.stderr)
    return 2


def _discard_output() -> None:
    """Discard the interpreter's final flush, which would fail again."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # not a real file
        return
