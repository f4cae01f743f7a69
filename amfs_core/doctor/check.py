"""Checks of a store and their findings, for `amfs doctor`.

For adapters: `StorageAdapter.checks` yields the checks of one kind of store;
`amfs_core.doctor.probe` has those of any store.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from amfs_core.errors import AMFSError, PermissionDeniedError

DEADLINE = 10.0
"""Seconds that a check may take."""

ALL_SECONDS = 60.0
"""Seconds after which no further check is begun."""


_USER_INFO = re.compile(r"(?<=://)[^/\s'\"@]*@")  # of a URL: RFC 3986, section 3.2.1


class Verdict(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result of a check, and how to fix it. `name` is the name of the check, set by `examine`.

    With `blocks`, the checks that need this one are skipped; a problem always blocks.
    """

    verdict: Verdict
    found: str
    hint: str = ""
    blocks: bool = False
    name: str = ""


def ok(finding: str) -> Diagnosis:
    """Return that all is well."""
    return Diagnosis(Verdict.OK, finding)


def warning(finding: str, hint: str, *, blocks: bool = False) -> Diagnosis:
    """Return that something works less well than it could, or not as expected."""
    return Diagnosis(Verdict.WARNING, finding, hint, blocks)


def problem(finding: str, hint: str) -> Diagnosis:
    """Return that something does not work."""
    return Diagnosis(Verdict.PROBLEM, finding, hint, blocks=True)


def skipped(why: str) -> Diagnosis:
    """Return that nothing was checked."""
    return Diagnosis(Verdict.SKIPPED, why, blocks=True)


def refused(error: AMFSError) -> Diagnosis:
    """Return an error as a problem."""
    return problem(error.problem, error.hint or "")


def reads_only(error: PermissionDeniedError) -> Diagnosis:
    """Return that nothing may be written, as is intended for some agents."""
    diagnosis = refused(error)
    return warning(f"this store may only be read: {diagnosis.found}", diagnosis.hint, blocks=True)


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `needs` has the names of the checks that must succeed first.

    `look` is called in its own thread and abandoned after `seconds`. It may raise `AMFSError`.
    """

    name: str
    look: Callable[[], Diagnosis]
    needs: tuple[str, ...] = ()
    seconds: float = DEADLINE


def labelled(label: str, checks: Iterable[Check]) -> Iterator[Check]:
    """Yield the checks of one of several stores, with a label before their names. Closing this
    iterator closes them."""
    try:
        for check in checks:
            needs = tuple(f"{label}: {name}" for name in check.needs)
            yield replace(check, name=f"{label}: {check.name}", needs=needs)
    finally:
        if isinstance(checks, Generator):
            checks.close()


def examine(checks: Iterable[Check]) -> Iterator[Diagnosis]:
    """Run checks and yield each result as soon as it is known; never raises `AMFSError`.

    Users and passwords in URLs are left out.
    """
    blocked: set[str] = set()
    end = time.monotonic() + ALL_SECONDS
    for check in checks:
        missing = next((name for name in check.needs if name in blocked), None)
        if missing is not None:
            diagnosis = skipped(f"because of: {missing}")
        elif time.monotonic() > end:
            diagnosis = skipped("the checks before took too long")
        else:
            diagnosis = _looked(check)
        if diagnosis.blocks:
            blocked.add(check.name)
        yield replace(
            diagnosis,
            name=check.name,
            found=_USER_INFO.sub("", diagnosis.found),
            hint=_USER_INFO.sub("", diagnosis.hint),
        )


def _looked(check: Check) -> Diagnosis:
    """Return the result of a check, or that it did not end in time."""
    diagnoses: list[Diagnosis] = []

    def look() -> None:
        diagnoses.append(_guarded(check))

    # Not a pool: a thread that waits for a silent server must not keep the process alive.
    thread = threading.Thread(target=look, name=f"amfs-check-{check.name}", daemon=True)
    thread.start()
    thread.join(check.seconds)
    if diagnoses:
        return diagnoses[0]
    return problem(f"no answer within {check.seconds:.0f} seconds", "see what the store waits for")


def _guarded(check: Check) -> Diagnosis:
    try:
        return check.look()
    except AMFSError as error:
        return refused(error)
    except OSError as error:
        message = error.strerror or type(error).__name__
        return problem(f"the operating system says: {message}", "look up this message")
    except Exception as error:
        # Without its text, which may contain a secret.
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f" at {place.tb_frame.f_code.co_name}:{place.tb_lineno}" if place else ""
        return problem(f"the check itself failed: {type(error).__name__}{where}", "report it")
