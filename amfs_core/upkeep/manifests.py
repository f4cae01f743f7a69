"""The manifest of a namespace where a store is looked after: brought to another one, and checked.

`docs/design/manifest.md` says what a manifest is for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from amfs_core.errors import CorruptEntryError, PermissionDeniedError
from amfs_core.format import Layout, decode_manifest
from amfs_core.storage import StoreClient
from amfs_core.upkeep.finding import Finding
from amfs_core.upkeep.placing import different, place
from amfs_core.versions import Manifests, VersionLog


def bring(
    bodies: Sequence[bytes], target: StoreClient, layout: Layout, first: int = 1
) -> list[tuple[int, bool]]:
    """Create those versions of a manifest from the first one on that the target lacks, in their
    order; return the size of each and whether it was created. 1 request each, or 2.

    Raises `AMFSError` that names one which the target has with different bytes, and creates none
    after it.
    """
    done: list[tuple[int, bool]] = []
    for number, body in enumerate(bodies[first - 1 :], start=first):
        object_key = layout.manifest_key(number)
        target_body, created = place(target, object_key, body, look_first=False)
        if target_body != body:
            raise different(object_key)
        done.append((len(body), created))
    return done


class BothManifests:
    """The manifests of one namespace in the two stores of a copy."""

    def __init__(self, source: StoreClient, target: StoreClient, layout: Layout) -> None:
        self._store = target
        self._layout = layout
        self._source = Manifests(source, layout)
        self._target = Manifests(target, layout)
        self._brought = 0
        self._lock = threading.RLock()

    def bring(self) -> list[tuple[int, bool]]:
        """Bring the source's manifest to the target, and see that this release knows all features
        of both; return what `bring` does, for what was not brought before.

        2 requests where there is no manifest, and none within a minute of the last time. Raises
        what `Manifests.for_writing` raises: who copies writes by the rules of both.
        """
        with self._lock:
            self._source.for_writing()
            bodies = self._source.bodies
            done = bring(bodies, self._store, self._layout, self._brought + 1)
            self._brought = len(bodies)
            self._target.for_writing()
            return done


def check(versions: VersionLog) -> tuple[list[Finding], bool]:
    """Return what is wrong with the versions of a manifest, and whether the newest can be relied
    on, so that the namespace can be used.

    1 request per 1,000 of them, 1 for each that is new, and 1 more. Raises `UnknownFeatureError`
    for a feature that whoever reads must know.
    """
    layout, manifests = versions.layout, versions.manifests
    try:
        if manifests.may_read:
            manifests.look()  # what is known may be old
        newest = manifests.for_reading()
    except CorruptEntryError as error:
        return [Finding.damaged(error.object_key or layout.manifests, error)], False
    except PermissionDeniedError as error:
        return [Finding.refused(error.object_key or layout.manifests, error)], False
    last = 0 if newest is None else newest.version
    findings = list(_check_chain(layout, manifests.bodies))
    for info in versions.store.list(layout.manifests):
        number = layout.parse_manifest(info.key)
        if number is None:
            findings.append(Finding.foreign(info.key))
        elif number > last + 1:  # the next one may have been created meanwhile
            problem = f"there is no v{last + 1} of the manifest, so nobody reads this one"
            findings.append(Finding(info.key, problem, "restore the one before, or remove it"))
    return findings, True


def _check_chain(layout: Layout, bodies: Sequence[bytes]) -> Iterator[Finding]:
    before: str | None = None
    for number, body in enumerate(bodies, start=1):
        object_key = layout.manifest_key(number)
        try:
            manifest = decode_manifest(body, layout, number)
        except CorruptEntryError as error:
            yield Finding.damaged(object_key, error)
            before = None
            continue
        if manifest.previous != before and (before is not None or number == 1):
            problem = f"it does not follow the v{number - 1} that is there"
            yield Finding(object_key, problem, "compare with a copy")
        before = manifest.sha256
