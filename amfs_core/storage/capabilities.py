"""What a store can do beyond the verbs that every store has."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

_METHODS = {
    "create_many": "batch",
    "location": "location",
    "doorbell": "doorbell",
    "checks": "checks",
    "changes": "changes",
}
"""The optional members of an adapter, and the capability that each of them means."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an adapter declares about its store.

    - `paged`: one listing request returns up to 1,000 keys at a constant price, however many there
      are. False where a listing reads everything under the prefix first (a directory).
    - `batch`: objects cost less when they are created together, by `create_many`. Elsewhere they
      are created at the same time instead, by threads.
    - `location`: `location` says where the objects are, so a catalog of them can be kept on disk.
    - `doorbell`: `doorbell` may return one.
    - `checks`: `checks` yields what `amfs doctor` looks at. Elsewhere it runs the `Trial` of any
      store.
    - `changes`: `changes` returns a log. Elsewhere everything is listed at each look.
    """

    paged: bool = True
    batch: bool = False
    location: bool = False
    doorbell: bool = False
    checks: bool = False
    changes: bool = False

    def with_members(self, members: Mapping[str, object]) -> Capabilities:
        """Return these capabilities and those that the members of a class or an object mean: each
        optional method by being there, and `paged` by its value."""
        shown = {
            capability: True
            for name, capability in _METHODS.items()
            if members.get(name) is not None
        }
        if isinstance(paged := members.get("paged"), bool):
            shown["paged"] = paged
        return msgspec.structs.replace(self, **shown)
