"""English word stems, so that "hiking", "hikes" and "hiked" are one term.

The rules are Porter's ("An algorithm for suffix stripping", Program 14(3), 1980) with the two small
departures that he published later. Forms that no suffix rule reaches ("went") are a short list.
"""

from __future__ import annotations

import re

# A vowel sequence followed by a consonant sequence, with "y" a vowel after a consonant: Porter's m.
_CONSONANT = "[^aeiou]"
_VOWEL = "[aeiouy]"
_MEASURE = re.compile(f"{_VOWEL}+[^aeiouy]+|{_VOWEL}+(?=y)")
_SHORT = re.compile(f"{_CONSONANT}[aeiouy][^aeiouwxy]$")

_STEP_2 = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize",
    "bli": "ble", "alli": "al", "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize",
    "ation": "ate", "ator": "ate", "alism": "al", "iveness": "ive", "fulness": "ful",
    "ousness": "ous", "aliti": "al", "iviti": "ive", "biliti": "ble", "logi": "log",
}  # fmt: skip
_STEP_3 = {
    "icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": "",
}  # fmt: skip
_STEP_4 = (
    "ement", "ance", "ence", "able", "ible", "ment", "ant", "ent", "ism", "ate", "iti", "ous",
    "ive", "ize", "ion", "al", "er", "ic", "ou",
)  # fmt: skip
_ENDINGS_2 = tuple(sorted(_STEP_2, key=len, reverse=True))
_ENDINGS_3 = tuple(sorted(_STEP_3, key=len, reverse=True))

# Base form, then its irregular forms: the frequent verbs and plurals of English.
_IRREGULAR_FORMS = """
be am is are was were been being; have has had having; do does did done; go goes went gone; say
said; make made; know knew known; get got gotten; see saw seen; take took taken; think thought;
come came; give gave given; find found; tell told; feel felt; become became; leave left; mean
meant; keep kept; begin began begun; show shown; hear heard; run ran; bring brought; write wrote
written; sit sat; stand stood; lose lost; pay paid; meet met; speak spoke spoken; lead led;
understand understood; grow grew grown; fall fell fallen; send sent; build built; spend spent; win
won; teach taught; buy bought; choose chose chosen; draw drew drawn; drive drove driven; eat ate
eaten; break broke broken; catch caught; fly flew flown; wear wore worn; ride rode ridden; sing
sang sung; swim swam swum; sleep slept; sell sold; hold held; rise rose risen; throw threw thrown;
fight fought; forget forgot forgotten; hide hid hidden; drink drank drunk; wake woke woken; steal
stole stolen; shoot shot; dream dreamt; learn learnt; hang hung; feed fed; seek sought; bend bent;
lend lent; deal dealt; bite bit bitten; blow blew blown; freeze froze frozen; shake shook shaken;
swear swore sworn; tear tore torn; ring rang rung; sink sank sunk; stick stuck; strike struck;
sweep swept; swing swung; weave wove woven; light lit; slide slid; shine shone; child children;
man men; woman women; person people; foot feet; tooth teeth; mouse mice; goose geese; wife wives;
life lives; knife knives; half halves; shelf shelves; wolf wolves
"""
_IRREGULAR = {
    form: forms.split()[0] for forms in _IRREGULAR_FORMS.split(";") for form in forms.split()[1:]
}


def stem(word: str) -> str:
    """Return the stem of a word in lower case; words with other than a-z are their own stem."""
    if len(word) <= 2 or not (word.isascii() and word.isalpha()):
        return word
    word = _IRREGULAR.get(word, word)
    word = _without_tense(_without_plural(word))
    if word.endswith("y") and len(word) > 2 and _has_vowel(word[:-1]):
        word = word[:-1] + "i"
    word = _replaced(word, _ENDINGS_2, _STEP_2)
    word = _replaced(word, _ENDINGS_3, _STEP_3)
    return _without_final_e(_without_suffix(word))


def _measure(word: str) -> int:
    return len(_MEASURE.findall(word))


def _has_vowel(word: str) -> bool:
    return any(letter in "aeiou" for letter in word) or "y" in word[1:]


def _without_plural(word: str) -> str:
    if word.endswith("sses") or word.endswith("ies"):
        return word[:-2]
    if word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word


def _without_tense(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for ending in ("ed", "ing"):
        if word.endswith(ending) and _has_vowel(word[: -len(ending)]):
            return _mended(word[: -len(ending)])
    return word


def _mended(word: str) -> str:
    """Undo what an "-ed" or "-ing" did to the end of a verb: hop(p)ing, fil(e)ing, conflat(e)d."""
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if len(word) > 1 and word[-1] == word[-2] and word[-1] not in "aeioulsz":
        return word[:-1]
    if _measure(word) == 1 and _SHORT.search(word):
        return word + "e"
    return word


def _replaced(word: str, endings: tuple[str, ...], replacements: dict[str, str]) -> str:
    if not word.endswith(endings):  # one look, as most words have none of them
        return word
    for ending in endings:
        if word.endswith(ending):
            rest = word[: -len(ending)]
            return rest + replacements[ending] if _measure(rest) > 0 else word
    return word


def _without_suffix(word: str) -> str:
    if not word.endswith(_STEP_4):
        return word
    for ending in _STEP_4:
        if word.endswith(ending):
            rest = word[: -len(ending)]
            if _measure(rest) <= 1 or (ending == "ion" and not rest.endswith(("s", "t"))):
                return word
            return rest
    return word


def _without_final_e(word: str) -> str:
    if word.endswith("e"):
        measure = _measure(word[:-1])
        if measure > 1 or (measure == 1 and not _SHORT.search(word[:-1])):
            word = word[:-1]
    if word.endswith("ll") and _measure(word[:-1]) > 1:
        word = word[:-1]
    return word
