"""The command `amfs mount`."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from datetime import timedelta

import click

from amfs.cli import output, values
from amfs.cli.options import Session
from amfs.cli.run import Command
from amfs_core.errors import ConfigurationError


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  amfs mount memories
  amfs --store s3://my-bucket/team/ mount --write /mnt/team
  grep -r timeout /mnt/team/checkout-service
  diff /mnt/team/notes/.history/day/v1 /mnt/team/notes/day
  fusermount3 -u /mnt/team
""",
)
@click.argument("directory")
@click.option(
    "--write", "writes", is_flag=True, help="Allow writing; each write becomes a version."
)
@click.option(
    "--max-age",
    type=values.length,
    default="1",
    metavar="TIME",
    help="How old the shown sizes and times may be.  [default: 1 second]",
)
@click.option(
    "--rescue",
    metavar="DIR",
    help="Where to keep content that could not be stored.  "
    "[default: in the user's state directory]",
)
@click.pass_obj
def mount(
    session: Session, *, directory: str, writes: bool, max_age: timedelta, rescue: str | None
) -> None:
    """Show the memories as files in DIRECTORY, until Ctrl-C or `fusermount3 -u`.

    Entity paths are directories, keys are files; .history/KEY/v3 is version 3, and v3.json its
    whole stored document. Linux and macOS.
    """
    for library in ("platformdirs", "mfusepy"):  # named where they are missing, with the extra
        with contextlib.suppress(OSError):  # there is no libfuse, which is said below
            importlib.import_module(library)
    from amfs_agents.mount.rescue import Rescue
    from amfs_agents.mount.run import mount as run

    _log_to_stderr()
    memory = session.memory()
    health = memory.health()
    if health.error is not None:
        raise health.error

    def say() -> None:
        if session.json:
            output.document({"mounted": os.path.abspath(directory), "writes": writes})
        else:
            output.line(output.plain(f"mounted on {directory}; Ctrl-C unmounts it"))
        sys.stdout.flush()

    run(
        memory,
        directory,
        writes=writes,
        max_age=max_age.total_seconds(),
        rescue=Rescue(_state(writes) if rescue is None else rescue),
        mounted=say,
    )


def _state(writes: bool) -> str:
    import platformdirs

    directory = os.path.join(platformdirs.user_state_dir("amfs", appauthor=False), "rescued")
    if writes and not os.path.isabs(directory):  # "~", as nobody knows the home directory
        raise ConfigurationError(
            "there is no home directory for content that could not be stored",
            hint="name a directory with --rescue",
        )
    return directory


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("amfs: %(message)s"))
    log = logging.getLogger("amfs")
    log.addHandler(handler)
    log.propagate = False
