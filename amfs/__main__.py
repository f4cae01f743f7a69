"""The command `amfs`, and `python -m amfs`."""

from __future__ import annotations

import importlib.util
import sys


def main() -> None:
    """Run the command line, or say how to install what it needs."""
    missing = [name for name in ("click", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"amfs: the command line needs {' and '.join(missing)}: pip install 'amfs[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    from amfs.cli import amfs

    amfs.main(prog_name="amfs")


if __name__ == "__main__":
    main()
