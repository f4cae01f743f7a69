"""Checking what callers pass in before anything is sent; `InvalidValueError` names the argument."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from amfs_core.errors import ConfigurationError, InvalidValueError
from amfs_core.format import MAX_VERSION, values

_LONGEST_TIMEOUT = 86_400.0


def text(value: object, what: str) -> str:
    """Return `value` if it is text that UTF-8 can carry and is not empty."""
    if type(value) is not str:
        raise InvalidValueError(f"{what} must be text, not {type(value).__name__}")
    if not value:
        raise InvalidValueError(
            f"{what} is empty",
            hint="give it at least one character",
        )
    copy: str = values.copied(value, what)
    return copy


def segment(value: object, what: str) -> str:
    """Return a text as one segment of an entity path: its slashes separate nothing."""
    return text(value, what).replace("%", "%25").replace("/", "%2F")


def unsegment(segment: str) -> str:
    """Return the text that a segment stands for."""
    return segment.replace("%2F", "/").replace("%25", "%")


def query(value: object, what: str) -> str:
    """Return any text. Characters that UTF-8 cannot carry (lone surrogates) are in no memory: they
    become question marks, which are not words."""
    if type(value) is not str:
        raise InvalidValueError(f"{what} must be text, not {type(value).__name__}")
    return value.encode(errors="replace").decode()


def count(value: object, what: str) -> int:
    """Return a whole number of 1 or more."""
    if type(value) is not int or value < 1:
        raise InvalidValueError(
            f"{what} must be a whole number of 1 or more, not {values.shown(value)}"
        )
    return value


def texts(value: Iterable[str], what: str) -> tuple[str, ...]:
    """Return several texts as a tuple, in their order."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InvalidValueError(f"{what} must be a list of texts, not {type(value).__name__}")
    return tuple(text(element, f"{what}[{index}]") for index, element in enumerate(value))


def number(value: object, what: str) -> float:
    """Return a finite real number."""
    try:
        real = float(value) if type(value) in (int, float) else math.nan  # type: ignore[arg-type]
    except OverflowError:
        real = math.inf
    if not math.isfinite(real):
        raise InvalidValueError(f"{what} must be a finite number, not {values.shown(value)}")
    return real


def fraction(value: object, what: str) -> float:
    """Return a number between 0 and 1, both included."""
    if type(value) is float and 0.0 <= value <= 1.0:
        return value
    real = number(value, what)
    if not 0.0 <= real <= 1.0:
        raise InvalidValueError(f"{what} must be between 0 and 1, not {values.shown(value)}")
    return real


def seconds(duration: float | timedelta, what: str) -> float:
    """Return a length of time in seconds, not negative."""
    length = number(duration.total_seconds() if isinstance(duration, timedelta) else duration, what)
    if length < 0:
        raise InvalidValueError(f"{what} must not be negative, as {values.shown(duration)} is")
    return length


def timeout(value: object, what: str) -> float:
    """Return the seconds that an adapter gives a request; `ConfigurationError` for any other."""
    # Not infinite, and nothing near what a length of time can be: clients would break.
    if type(value) not in (int, float) or not 0 < value <= _LONGEST_TIMEOUT:  # type: ignore[operator]
        raise ConfigurationError(
            f"{what} must be seconds, above 0 and up to {_LONGEST_TIMEOUT:,.0f} (a day)"
        )
    return float(value)  # type: ignore[arg-type]


def function(value: object, what: str) -> None:
    """Raise `InvalidValueError` unless this can be called."""
    if not callable(value):
        raise InvalidValueError(f"{what} must be a function, not {type(value).__name__}")


def flag(value: object, what: str) -> bool:
    """Return True or False; values that merely count as one of them are refused."""
    if type(value) is not bool:
        raise InvalidValueError(f"{what} must be True or False, not {values.shown(value)}")
    return value


def lifetime(ttl: float | timedelta | None) -> timedelta | None:
    """Return a ttl as a length of time above zero; None stays None."""
    if ttl is None:
        return None
    ttl_seconds = seconds(ttl, "ttl")
    if ttl_seconds == 0:
        raise InvalidValueError("ttl must be more than 0 seconds")
    try:
        length = timedelta(seconds=ttl_seconds)
        datetime.now(UTC) + length
    except OverflowError as error:
        raise InvalidValueError(f"ttl of {values.shown(ttl)} ends after the year 9999") from error
    return length


def moment(value: object, what: str) -> datetime:
    """Return an aware time in UTC."""
    if not isinstance(value, datetime):
        raise InvalidValueError(f"{what} must be a datetime, not {type(value).__name__}")
    if value.tzinfo is None:
        raise InvalidValueError(
            f"{what} has no time zone",
            hint="pass an aware datetime such as datetime.now(UTC)",
        )
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise InvalidValueError(f"{what} is not in the years 1 to 9999 of UTC: {value}") from error


def expanded(path: str, what: str) -> str:
    """Return a path with `~` at its beginning replaced by the home directory.

    Raises `ConfigurationError` where nobody knows that, as in a container without `HOME`, or where
    `HOME` is empty or a relative path: `./~/mem`, `/mem` and `./home/mem` are not what was meant.
    """
    if not path.startswith("~"):
        return path
    expansion = os.path.expanduser(path)
    own = path.partition(os.sep)[0] == "~"
    if not os.path.isabs(expansion) or (own and os.environ.get("HOME") == ""):
        raise ConfigurationError(
            f"{what} {path!r} begins with a home directory that this system does not know",
            hint="set HOME, or give the whole path",
        )
    return expansion


def version(value: object, what: str, least: int = 1) -> int:
    """Return a version number, a whole number from `least` to `MAX_VERSION`."""
    if type(value) is not int or not least <= value <= MAX_VERSION:
        raise InvalidValueError(
            f"{what} must be a whole number from {least} to {MAX_VERSION}, "
            f"not {values.shown(value)}"
        )
    return value
