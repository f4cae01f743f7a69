"""English word stems, so that "hiking", "hikes" and "hiked" are one term.

The rules are those of Snowball's English stemmer (Porter's second; snowballstem.org). A short list
has the forms that no suffix rule covers ("went").
"""

from __future__ import annotations

from collections import deque

from snowballstemmer.english_stemmer import EnglishStemmer

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


_idle: deque[EnglishStemmer] = deque()
"""A stemmer keeps its current word, so it serves one thread at a time."""


def stem(word: str) -> str:
    """Return the stem of a word in lower case; a word with other characters than a-z is its own
    stem."""
    if len(word) <= 2 or not (word.isascii() and word.isalpha()):
        return word
    try:
        stemmer = _idle.pop()
    except IndexError:
        stemmer = EnglishStemmer()
    stemmed: str = stemmer.stemWord(_IRREGULAR.get(word, word))
    _idle.append(stemmer)
    return stemmed
