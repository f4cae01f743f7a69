"""What becomes of a client that a forked child inherited."""

from __future__ import annotations

import msgspec


class _Kept(msgspec.Struct, gc=False):
    """An object that holds itself is never freed: no garbage collector looks at it."""

    what: object
    itself: _Kept | None = None


def keep_forever(client: object) -> None:
    """Keep a client inherited through a fork alive forever, even at interpreter exit.

    To free it would close its connections, which are the parent's too: on a connection with TLS
    that says goodbye to the server in the middle of what the parent is doing.
    """
    kept = _Kept(client)
    kept.itself = kept
