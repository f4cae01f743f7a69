"""From text to search terms, of memories and of queries."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

from amfs_core.ranking.stems import stem

# Scripts written without spaces, and Hangul, whose words carry particles: overlapping pairs of
# characters find words in these without a dictionary (as Lucene's CJKBigramFilter does).
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
# Python's \w leaves out the vowel signs of Indic scripts, which would cut words into pieces.
_LETTER = rf"(?:(?![{_UNSPACED}])(?:[^\W_]|[\u0900-\u0963\u0966-\u0dff]))"
_SEPARATORS = "-_.'’"
_WORD = re.compile(rf"([{_UNSPACED}]+)|({_LETTER}+(?:[{_SEPARATORS}]+{_LETTER}+)*)")
_ASCII_WORD = re.compile(r"[A-Za-z0-9]+(?:[-_.']+[A-Za-z0-9]+)*")
_PART = re.compile(rf"\d+|(?:(?!\d){_LETTER})+")
_ASCII_PART = re.compile(r"\d+|[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_JOINT = re.compile(rf"(?<!\d)[{_SEPARATORS}]+|[{_SEPARATORS}]+(?!\d)")
_ACCENTS = re.compile("[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u064b-\u065f\u0670]")
# Letters that Unicode does not take apart into a letter and an accent.
_LETTERS = str.maketrans(
    {"ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"}
    | {"æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ı": "i"}
)
_LONGEST_WORD = 128
"""Anything longer is not a word but encoded data, which is found only by its beginning."""

MOST_CHARACTERS = 100_000
"""The number of characters indexed of one value: about 50 pages, which takes a tenth of a
second."""

_LEAST_VECTOR = 64
_LEAST_ENCODED = 200
# Base64, its form for URLs, and hexadecimal digits: one long run, or lines as in PEM and mail.
_ENCODED = re.compile(
    r"(?<![A-Za-z0-9+/_=-])(?:[A-Za-z0-9+/_-]{60,76}\r?\n){3,}[A-Za-z0-9+/_-]*={0,2}"
    r"|[A-Za-z0-9+/_-]{200,}+={0,2}"
)

_ISO_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?!\d)")
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)", re.IGNORECASE)
_CONTRACTION = re.compile(r"(?:n['’]t|['’](?:s|m|d|re|ve|ll))$", re.IGNORECASE)
_YEAR = "january february march april may june july august september october november december"
_MONTHS = _YEAR.split()
_SHORT_MONTHS = {month[:3]: month for month in _MONTHS} | {"sept": "september"}

# The words that phrase English questions, as opposed to their subjects.
_PHRASING = """
a about an and any are as at be been both but by ca can could did do does doing done for from had
has have having he her hers him his how i if in into is it its me might my of on or our ours she
should so some than that the their theirs them then there these they this those to us was we were
what when where which while who whom whose why will with wo would you your yours
"""
_QUESTION_WORDS = frozenset(_PHRASING.split())


def terms(text: str) -> list[str]:
    """Return the terms by which a text can be found, each as often as it occurs.

    Case, accents and English word endings are folded. An identifier gives its parts and the whole
    (`retry-pattern`: retri, pattern, retrypattern), an ISO date its day, month and year as in
    words, and a run of a script without spaces its characters and its pairs of characters.
    """
    text_terms: list[str] = []
    if text.isascii():
        for token in text.split():  # most words are known already, with their punctuation
            text_terms += (
                _terms_of_token(token) if len(token) <= _LONGEST_WORD else _terms_in(token)
            )
        return text_terms
    for run, word in _WORD.findall(_without_accents(text)):
        if run:
            text_terms += run
            text_terms += _pairs(run)
        else:
            text_terms += _terms_of_word(word)
    return text_terms


def query_terms(text: str) -> list[str]:
    """Return the distinct terms that a query asks for, in order.

    Words that only phrase the question are left out, unless there are no others. A run of a script
    without spaces gives its pairs of characters, or its only character.
    """
    asked: dict[str, None] = {}
    phrasing: dict[str, None] = {}
    for run, word in _WORD.findall(_without_accents(text)):
        if run:
            asked.update(dict.fromkeys(_pairs(run) or [run]))
        elif _CONTRACTION.sub("", word).lower() in _QUESTION_WORDS:
            phrasing.update(dict.fromkeys(_terms_of_word(word)))
        else:
            asked.update(dict.fromkeys(_terms_of_word(word)))
    return list(asked or phrasing)


def texts(value: Any) -> tuple[str, str]:
    """Return the text inside a JSON value, and the names of the fields of its objects.

    Numbers and booleans are text as JSON writes them. Long lists of numbers, such as vectors, and
    encoded data are left out, because nobody searches for them. The result has at most the first
    100,000 characters of the rest, in JSON's order, and as many of the names.
    """
    parts: list[str] = []
    names: list[str] = []
    room, room_for_names = MOST_CHARACTERS, MOST_CHARACTERS
    waiting = [value]  # the next one is at the end
    while waiting and room > 0:
        node = waiting.pop()
        if isinstance(node, dict):
            if room_for_names > 0:
                names += node
                room_for_names -= sum(map(len, node)) + len(node)
            waiting += reversed(node.values())
        elif isinstance(node, list | tuple):
            if not _is_vector(node):
                waiting += reversed(node)
        elif node is not None:
            text = _plain(node, room)
            parts.append(text)
            room -= len(text) + 1
    return "\n".join(parts), "\n".join(names)[:MOST_CHARACTERS]


def _plain(scalar: Any, room: int) -> str:
    """Return a scalar as text, without encoded data, cut to the room that is left."""
    if isinstance(scalar, bool):
        return "true" if scalar else "false"
    if not isinstance(scalar, str):
        return str(scalar)
    if len(scalar) < _LEAST_ENCODED:
        return scalar[:room]
    # Encoded data may come before the text, so more is read than is kept.
    return _ENCODED.sub(" ", scalar[: 100 * MOST_CHARACTERS])[:room]


def _is_vector(values: list[Any] | tuple[Any, ...]) -> bool:
    return len(values) >= _LEAST_VECTOR and all(type(value) in (int, float) for value in values)


def _without_accents(text: str) -> str:
    """Return the text in composed characters without accents."""
    if text.isascii():
        return text
    text = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.translate(_LETTERS)))
    return unicodedata.normalize("NFC", text)


def _pairs(run: str) -> list[str]:
    return [run[at : at + 2] for at in range(len(run) - 1)]


def _terms_in(text: str) -> list[str]:
    """Return the terms of an ASCII text."""
    return [term for word in _ASCII_WORD.findall(text) for term in _terms_of_word(word)]


@lru_cache(maxsize=1 << 16)
def _terms_of_token(token: str) -> tuple[str, ...]:
    return tuple(_terms_in(token))


@lru_cache(maxsize=1 << 16)
def _terms_of_word(word: str) -> tuple[str, ...]:
    if len(word) > _LONGEST_WORD:
        return (word[:_LONGEST_WORD].casefold(),)
    date = _ISO_DATE.match(word)
    if date and 1 <= int(date[2]) <= 12:
        rest = word[date.end() :].lstrip(f"T{_SEPARATORS}")
        month = stem(_MONTHS[int(date[2]) - 1])
        return (_number(date[3]), month, _number(date[1]), *_terms_of_word(rest))
    word = _CONTRACTION.sub("", word)
    if ordinal := _ORDINAL.fullmatch(word):
        return (_number(ordinal[1]),)
    parts: list[str] = (_ASCII_PART if word.isascii() else _PART).findall(word)
    word_terms = [_term(part.casefold()) for part in parts]
    if len(parts) > 1:
        word_terms.append(_term(_JOINT.sub("", word).casefold()))
    return tuple(word_terms)


def _term(word: str) -> str:
    if word.isdigit():
        return _number(word)
    return stem(_SHORT_MONTHS.get(word, word))


def _number(digits: str) -> str:
    return digits.lstrip("0") or "0"
