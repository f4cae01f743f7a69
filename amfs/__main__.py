"""The command `amfs`, and `python -m amfs`."""

from __future__ import annotations

import importlib.util
import signal
import sys


def main() -> None:
    """Run the command line, or say how to install what it needs."""
    # Ctrl-C during the imports ends the program at once, without a traceback. A parent that has
    # it ignored, such as nohup, stays obeyed.
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    missing = [name for name in ("click", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"amfs: the command line needs {' and '.join(missing)}: pip install 'amfs[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    from amfs.cli import amfs

    if interrupted is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupted)
    amfs.main(prog_name="amfs")


if __name__ == "__main__":
    main()
