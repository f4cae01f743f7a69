"""Checking what callers pass in before anything is sent; `InvalidValueError` names the argument."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from amfs_core.errors import ConfigurationError, InvalidValueError
from amfs_core.format import MAX_VERSION, values

_LONGEST_TIMEOUT = 86_400.0


def text(given: object, what: str) -> str:
    """Return `given` if it is text that UTF-8 can carry and is not empty."""
    if type(given) is not str:
        raise InvalidValueError(f"{what} must be text, not {type(given).__name__}")
    if not given:
        raise InvalidValueError(
            f"{what} is empty",
            hint="give it at least one character",
        )
    found: str = values.copied(given, what)
    return found


def segment(given: object, what: str) -> str:
    """Return a text as one segment of an entity path: its slashes separate nothing."""
    return text(given, what).replace("%", "%25").replace("/", "%2F")


def unsegment(segment: str) -> str:
    """Return the text that a segment stands for."""
    return segment.replace("%2F", "/").replace("%25", "%")


def query(given: object, what: str) -> str:
    """Return any text. Characters that UTF-8 cannot carry (lone surrogates) are in no memory: they
    become question marks, which are not words."""
    if type(given) is not str:
        raise InvalidValueError(f"{what} must be text, not {type(given).__name__}")
    return given.encode(errors="replace").decode()


def count(given: object, what: str) -> int:
    """Return a whole number of 1 or more."""
    if type(given) is not int or given < 1:
        raise InvalidValueError(
            f"{what} must be a whole number of 1 or more, not {values.shown(given)}"
        )
    return given


def texts(given: Iterable[str], what: str) -> tuple[str, ...]:
    """Return several texts as a tuple, in their order."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InvalidValueError(f"{what} must be a list of texts, not {type(given).__name__}")
    return tuple(text(one, f"{what}[{index}]") for index, one in enumerate(given))


def number(given: object, what: str) -> float:
    """Return a finite real number."""
    try:
        found = float(given) if type(given) in (int, float) else math.nan  # type: ignore[arg-type]
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise InvalidValueError(f"{what} must be a finite number, not {values.shown(given)}")
    return found


def fraction(given: object, what: str) -> float:
    """Return a number between 0 and 1, both included."""
    if type(given) is float and 0.0 <= given <= 1.0:
        return given
    found = number(given, what)
    if not 0.0 <= found <= 1.0:
        raise InvalidValueError(f"{what} must be between 0 and 1, not {values.shown(given)}")
    return found


def seconds(given: float | timedelta, what: str) -> float:
    """Return a length of time in seconds, not negative."""
    found = number(given.total_seconds() if isinstance(given, timedelta) else given, what)
    if found < 0:
        raise InvalidValueError(f"{what} must not be negative, as {values.shown(given)} is")
    return found


def timeout(given: object, what: str) -> float:
    """Return the seconds that an adapter gives a request; `ConfigurationError` for any other."""
    # Not infinite, and nothing near what a length of time can be: clients would break.
    if type(given) not in (int, float) or not 0 < given <= _LONGEST_TIMEOUT:  # type: ignore[operator]
        raise ConfigurationError(
            f"{what} must be seconds, above 0 and up to {_LONGEST_TIMEOUT:,.0f} (a day)"
        )
    return float(given)  # type: ignore[arg-type]


def function(given: object, what: str) -> None:
    """Raise `InvalidValueError` unless this can be called."""
    if not callable(given):
        raise InvalidValueError(f"{what} must be a function, not {type(given).__name__}")


def flag(given: object, what: str) -> bool:
    """Return True or False; values that merely count as one of them are refused."""
    if type(given) is not bool:
        raise InvalidValueError(f"{what} must be True or False, not {values.shown(given)}")
    return given


def lifetime(given: float | timedelta | None) -> timedelta | None:
    """Return a ttl as a length of time above zero; None stays None."""
    if given is None:
        return None
    found = seconds(given, "ttl")
    if found == 0:
        raise InvalidValueError("ttl must be more than 0 seconds")
    try:
        length = timedelta(seconds=found)
        datetime.now(UTC) + length
    except OverflowError as error:
        raise InvalidValueError(f"ttl of {values.shown(given)} ends after the year 9999") from error
    return length


def moment(given: object, what: str) -> datetime:
    """Return an aware time in UTC."""
    if not isinstance(given, datetime):
        raise InvalidValueError(f"{what} must be a datetime, not {type(given).__name__}")
    if given.tzinfo is None:
        raise InvalidValueError(
            f"{what} has no time zone",
            hint="pass an aware datetime such as datetime.now(UTC)",
        )
    try:
        return given.astimezone(UTC)
    except OverflowError as error:
        raise InvalidValueError(f"{what} is not in the years 1 to 9999 of UTC: {given}") from error


def expanded(path: str, what: str) -> str:
    """Return a path with `~` at its beginning replaced by the home directory.

    Raises `ConfigurationError` where nobody knows that, as in a container without `HOME`, or where
    `HOME` is empty or a relative path: `./~/mem`, `/mem` and `./home/mem` are not what was meant.
    """
    if not path.startswith("~"):
        return path
    found = os.path.expanduser(path)
    own = path.partition(os.sep)[0] == "~"
    if not os.path.isabs(found) or (own and os.environ.get("HOME") == ""):
        raise ConfigurationError(
            f"{what} {path!r} begins with a home directory that this system does not know",
            hint="set HOME, or give the whole path",
        )
    return found


def version(given: object, what: str, least: int = 1) -> int:
    """Return a version number, a whole number from `least` to `MAX_VERSION`."""
    if type(given) is not int or not least <= given <= MAX_VERSION:
        raise InvalidValueError(
            f"{what} must be a whole number from {least} to {MAX_VERSION}, "
            f"not {values.shown(given)}"
        )
    return given
