"""The SDKs of the frameworks, each of which is an extra of this distribution."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needed_for(name: str, extra: str) -> Iterator[None]:
    """Import an SDK within this block: if it is missing, the error names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{name} needs its extra: pip install 'amfs[{extra}]' ({error})", name=error.name
        ) from error
