"""The catalog: the newest version of every memory, in a database that may be thrown away.

A refresh lists the objects and gets only the newest versions that it has not seen. They are
immutable, so what is held never goes stale; what the listing says of size and time is compared all
the same, because a directory or a bucket may have been replaced by another under the same name.
`docs/design/catalog.md` says what goes wrong without each part.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

from amfs_core import fork
from amfs_core.catalog.filters import under
from amfs_core.catalog.refresh import Progress, Refresh
from amfs_core.catalog.sqlite import tables
from amfs_core.catalog.sqlite.database import Database, DatabaseLost
from amfs_core.catalog.sqlite.tables import Known, Row
from amfs_core.changes import Followed, Page, Source
from amfs_core.errors import AMFSError
from amfs_core.format import Address
from amfs_core.versions import VersionLog

T = TypeVar("T")

_MAX_SCOPES = 1000
_SOME = 10
_ERASED = (
    "INSERT INTO erased VALUES (?, ?) "
    "ON CONFLICT (prefix) DO UPDATE SET version = max(version, excluded.version)"
)
_STAMP = "UPDATE memory SET modified = ? WHERE id = ?"
_log = logging.getLogger("amfs")


class Catalog:
    """The newest versions in one namespace. Safe for threads, and for processes that share a file.

    `directory` is where the file is kept, one for every store and namespace; None: in memory.
    `schema` adds tables that are derived from the content of memories, and each of `dependents` is
    called, as `(connection, ids)`, before that content changes or goes. `takes_own` False leaves
    the notes of what this process appended for another catalog.
    """

    def __init__(
        self,
        versions: VersionLog,
        directory: Path | None,
        schema: str,
        dependents: Iterable[Callable[[sqlite3.Connection, list[int]], None]],
        *,
        takes_own: bool = True,
    ) -> None:
        self.versions = versions
        self.changes = Source(versions.store, versions.layout)
        self._dependents = tuple(dependents)
        location = getattr(versions.store.adapter, "location", None)
        identity = json.dumps([location, versions.layout.namespace])
        if location is None:
            directory = None
        self.database = Database(directory, f"{tables.SCHEMA};\n{schema}", identity)
        self._left_out: set[str] = set()  # object keys that were reported
        self._takes_own = takes_own
        self._own: dict[Address, int] = {}
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Take a new lock in a forked child, and look at everything again."""
        self._refreshing = threading.Lock()
        # When each refresh was begun, and the number of the database that it filled; of those that
        # listed everything, too; and what was listed when, to go on from by the change log.
        self._refreshed = _Times()
        self._listed = _Times()
        self._followed: OrderedDict[str | None, tuple[Followed, int]] = OrderedDict()

    def fresh(
        self,
        entity_path: str | None,
        work: Callable[[Database], T],
        *,
        max_age: float | None = None,
        progress: Progress | None = None,
        complete: bool = False,
    ) -> T:
        """Return `work(database)` on a catalog that is complete under an entity path.

        It has every version whose write returned before the call began, or, with `max_age`, at
        most that many seconds earlier. When the database is lost meanwhile, all is done again.
        1 request per 1,000 objects, or 1 where the store's change log was followed since, and 1 per
        newest version not seen yet; none within `max_age`. `complete`: do not rely on that log.
        """
        asked = time.monotonic() - (max_age or 0.0)
        while True:
            with suppress(DatabaseLost):
                number = self.database.current()
                self._refresh_since(asked, entity_path, progress, number, complete=complete)
                answer = work(self.database)
                self.database.require(number)  # else it may have been emptied in between
                return answer

    def forget(self, address: Address, below: int = 0) -> None:
        """Drop a memory and all that is derived from it: its content is to be gone.

        With `below` a version of that number or a later one stays: somebody wrote it since. No
        version `below` comes back, whoever fetched it before and stores it later.
        """

        def drop(connection: sqlite3.Connection) -> None:
            with self.database.transaction(connection):
                known = _known(connection, [address.prefix])
                self._drop(connection, [one for one in known if not below or one[2] < below])
                if below:
                    connection.execute(_ERASED, (address.prefix, below))

        while True:
            with suppress(DatabaseLost):
                number = self.database.current()
                self.database.run(drop)
                self.database.require(number)
                break
        if below:
            self.database.remove_others()

    def close(self) -> None:
        """Close the database. A refresh under way is waited for."""
        with self._refreshing:
            self.database.close()

    def _refresh_since(
        self,
        moment: float,
        entity_path: str | None,
        progress: Progress | None,
        number: int,
        *,
        complete: bool,
    ) -> None:
        """Refresh unless that was begun, for this path or one above it, after `moment` and in the
        database with this number; then take in what this process wrote since, which costs no
        request."""
        scopes = _scopes(entity_path)
        times = self._listed if complete else self._refreshed
        if times.any_since(moment, scopes, number) and not self._has_own():
            return
        with self._refreshing:
            if times.any_since(moment, scopes, number) and self._note_own():
                Refresh(self, entity_path, progress).take_own()
                return
            if complete or not self._follow(scopes, progress, number):
                self._list(entity_path, progress, number)

    def _follow(self, scopes: list[str | None], progress: Progress | None, number: int) -> bool:
        """Refresh by the change log, and return True; False when there is everything to list."""
        for scope in scopes:
            followed, filled = self._followed.get(scope, (None, 0))
            if followed is None:
                continue
            begun = time.monotonic()
            news = self.changes.since(followed) if filled == number else None
            if news is not None:
                position, page = news
                refresh = Refresh(self, scope, progress)
                refresh.take(page)
                refresh.take_own()
                if not refresh.refused:
                    followed.position, followed.again = position, refresh.damaged
                    self._refreshed.note(scope, begun, number)
                    return True
            self._followed.pop(scope, None)
        return False

    def _list(self, entity_path: str | None, progress: Progress | None, number: int) -> None:
        """Refresh by a listing; who lists for the second time begins to follow the change log."""
        again = self._listed.has(entity_path)
        position = self.changes.position(make=again)
        begun = time.monotonic()
        refresh = Refresh(self, entity_path, progress)
        refresh.run()
        self._refreshed.note(entity_path, begun, number)
        self._listed.note(entity_path, begun, number)
        self._followed.pop(entity_path, None)
        if position is not None and not refresh.refused:
            followed = self.changes.followed(entity_path, position, begun)
            followed.again = refresh.damaged
            self._followed[entity_path] = followed, number
            if len(self._followed) > _MAX_SCOPES:
                self._followed.popitem(last=False)

    def _has_own(self) -> bool:
        return bool(self._own) or self.versions.cache.has_appended

    def _note_own(self) -> bool:
        """Note what this process appended; False when it was too much to be remembered."""
        cache = self.versions.cache
        note = cache.take_appended if self._takes_own else cache.look_at_appended
        return note(self._own)

    # -- what a refresh asks and says --------------------------------------------------------

    def take_own(self, entity_path: str | None) -> Page:
        """Return what this process wrote under a path since this was last asked."""
        self._note_own()
        return {
            address.prefix: (version, 0, None)
            for address, version in list(self._own.items())
            if address.is_under(entity_path)
        }

    def stored_own(self, page: Page) -> None:
        """Forget that these were appended: the catalog has them, or something newer."""
        for address, version in list(self._own.items()):
            if address.prefix in page and version <= page[address.prefix][0]:
                self._own.pop(address, None)

    def last_id(self) -> int:
        """Return the highest id there is."""
        statement = "SELECT ifnull(max(id), 0) FROM memory"
        return int(self.database.run(lambda found: found.execute(statement).fetchone())[0])

    def known(self, prefixes: Iterable[str]) -> list[Known]:
        """Return those of the memories with these prefixes that are held."""
        return self.database.run(lambda connection: _known(connection, prefixes))

    def known_of_page(self, prefixes: Collection[str]) -> list[Known]:
        """Return the same, and perhaps others, for prefixes that stand together in their order.

        Reading the index from one end to the other costs a quarter less than looking each up.
        """
        if not prefixes:
            return []
        most = 2 * len(prefixes)
        found: list[Known] = self.database.run(
            lambda connection: connection.execute(
                "SELECT prefix, id, version, size, modified FROM memory "
                "WHERE prefix BETWEEN ? AND ? LIMIT ?",
                (min(prefixes), max(prefixes), most + 1),
            ).fetchall()
        )
        # The memories of deeper paths may stand among those of a page.
        return found if len(found) <= most else self.known(prefixes)

    def others(self, confirmed: bytearray, entity_path: str | None) -> list[str]:
        """Return the prefixes of the memories under a path whose ids are not confirmed, and are
        low enough to have been."""
        condition, parameters = under(entity_path)

        def read(connection: sqlite3.Connection) -> list[str]:
            among = f"FROM memory WHERE {condition} AND id < ?"
            bounds = (*parameters, len(confirmed))
            ((count,),) = connection.execute(f"SELECT count(*) {among}", bounds)
            if count == confirmed.count(1):  # to read them all would cost five times as much
                return []
            found = connection.execute(f"SELECT id {among}", bounds)
            ids = [id for (id,) in found if not confirmed[id]]
            wanted = "SELECT prefix FROM memory WHERE id = ?"
            return [prefix for id in ids for (prefix,) in connection.execute(wanted, (id,))]

        return self.database.run(read)

    def put(self, memories: list[tuple[Row, bytes]]) -> None:
        """Store newest versions with their bodies; one that is older than what is there by now is
        left out. Of one that is there by now, as another refresh has stored it, only the time of
        its object is taken: what is derived from its content stays."""

        def put(connection: sqlite3.Connection) -> None:
            with self.database.transaction(connection):
                known = {
                    held[0]: held
                    for held in _known(connection, [one[tables.PREFIX] for one, _ in memories])
                }
                erased = dict(_erased(connection, [one[tables.PREFIX] for one, _ in memories]))
                newer = []
                for one, body in memories:
                    if one[tables.VERSION] < erased.get(one[tables.PREFIX], 0):
                        continue  # fetched before a purge that was done meanwhile
                    held = known.get(one[tables.PREFIX])
                    if held is not None and held[2] > one[tables.VERSION]:
                        continue
                    if (
                        held is None
                        or held[2] < one[tables.VERSION]
                        or _body(connection, held[1]) != body
                    ):
                        newer.append((one, body))
                    elif one[tables.MODIFIED] is not None:
                        connection.execute(_STAMP, (one[tables.MODIFIED], held[1]))
                prefixes = [one[tables.PREFIX] for one, _ in newer]
                self._tell(connection, [known[one] for one in prefixes if one in known])
                connection.executemany(tables.UPSERT, [one for one, _ in newer])
                connection.executemany(
                    tables.BODY, [(one[tables.PREFIX], body) for one, body in newer]
                )
                connection.executemany(
                    "INSERT OR IGNORE INTO tag SELECT id, ?2 FROM memory WHERE prefix = ?1",
                    [
                        (one[tables.PREFIX], tag)
                        for one, _ in newer
                        if one[tables.TAGS] != "[]"
                        for tag in json.loads(one[tables.TAGS])
                    ],
                )

        if memories:
            self.database.run(put)

    def stamp(self, stamps: list[tuple[float, int]]) -> None:
        """Note the times of objects, each with the id of its memory."""

        def put(connection: sqlite3.Connection) -> None:
            with self.database.transaction(connection):
                connection.executemany(_STAMP, stamps)

        if stamps:
            self.database.run(put)

    def drop(self, memories: list[Known]) -> None:
        """Drop memories that are no more, but for those that changed meanwhile."""

        def drop(connection: sqlite3.Connection) -> None:
            with self.database.transaction(connection):
                now = _known(connection, [one[0] for one in memories])
                self._drop(connection, [one for one in now if one in memories])

        self.database.run(drop)

    def newest(self, entity_path: str | None, without: set[str]) -> list[str]:
        """Return the object keys of some versions that are held under a path: the last ones, but
        not of the memories with these prefixes."""
        condition, parameters = under(entity_path)

        def read(connection: sqlite3.Connection) -> list[str]:
            found = connection.execute(
                f"SELECT prefix, version FROM memory WHERE {condition} ORDER BY id DESC", parameters
            )
            held = ((prefix, version) for prefix, version in found if prefix not in without)
            return [f"{prefix}v{version}.json" for prefix, version in islice(held, _SOME)]

        return self.database.run(read)

    def report(self, address: Address, version: int, fault: AMFSError) -> None:
        """Say once that the newest version of a memory is damaged or may not be read. It is left
        out, and never in the way of others; the version before it is not the newest, so that goes
        too."""
        self.note(address.object_key(version), fault)
        self.forget(address)

    def note(self, object_key: str, why: object) -> None:
        """Say once that an object is left out."""
        if object_key not in self._left_out:
            self._left_out.add(object_key)
            _log.warning("left out: %s", why)

    def _drop(self, connection: sqlite3.Connection, memories: Iterable[Known]) -> None:
        gone = list(memories)
        self._tell(connection, gone)
        ids = [(one[1],) for one in gone]
        connection.executemany("DELETE FROM memory WHERE id = ?", ids)
        connection.executemany("DELETE FROM body WHERE memory = ?", ids)

    def _tell(self, connection: sqlite3.Connection, memories: list[Known]) -> None:
        """Have what is derived from the content of these memories go."""
        ids = [id for _, id, *_ in memories]
        if ids:
            for dependent in self._dependents:
                dependent(connection, ids)
            connection.executemany("DELETE FROM tag WHERE memory = ?", [(one,) for one in ids])


class _Times:
    """When a refresh of each path was begun, and the number of the database that it filled."""

    def __init__(self) -> None:
        self._times: OrderedDict[str | None, tuple[float, int]] = OrderedDict()

    def note(self, scope: str | None, begun: float, number: int) -> None:
        """Note a refresh of a path."""
        self._times[scope] = begun, number
        self._times.move_to_end(scope)
        if len(self._times) > _MAX_SCOPES:
            self._times.popitem(last=False)

    def has(self, scope: str | None) -> bool:
        """Whether a path was refreshed at all."""
        return scope in self._times

    def any_since(self, moment: float, scopes: list[str | None], number: int) -> bool:
        """Whether one of these paths was refreshed after a moment, in this database."""
        times = (self._times.get(scope) for scope in scopes)
        return any(one is not None and one[0] > moment and one[1] == number for one in times)


def _scopes(entity_path: str | None) -> list[str | None]:
    """Return an entity path and all above it, the widest first."""
    names = [] if entity_path is None else entity_path.split("/")
    return [None, *("/".join(names[:length]) for length in range(1, len(names) + 1))]


def _known(connection: sqlite3.Connection, prefixes: Iterable[str]) -> list[Known]:
    return connection.execute(
        "SELECT prefix, memory.id, version, size, modified FROM json_each(?) "
        "CROSS JOIN memory ON memory.prefix = json_each.value",
        (json.dumps(list(prefixes), ensure_ascii=False),),
    ).fetchall()


def _erased(connection: sqlite3.Connection, prefixes: Iterable[str]) -> list[tuple[str, int]]:
    return connection.execute(
        "SELECT prefix, version FROM json_each(?) "
        "CROSS JOIN erased ON erased.prefix = json_each.value",
        (json.dumps(list(prefixes), ensure_ascii=False),),
    ).fetchall()


def _body(connection: sqlite3.Connection, id: int) -> bytes:
    ((body,),) = connection.execute("SELECT data FROM body WHERE memory = ?", (id,))
    return bytes(body)
