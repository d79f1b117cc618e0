"""A misspelt query as its candidates spell it.

Four of five misspellings are one slip: two letters change places, one is another, left out or added
(Damerau 1964, "A technique for computer detection and correction of spelling errors"). A word of
the query is read as a word of the candidates' that is one slip away where no candidate has the
word itself and the model has none for it either: it falls into pieces. The first letter stays,
or changes places with the second: fingers slip later, and many words differ in it. So what is a
word already mostly stays, and the shop's own words are the dictionary.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from worker.ranking.join import JoinedSearch
from worker.ranking.model import Model
from worker.ranking.rules import RUN
from worker.ranking.text import Fields, item_text

SHORTEST: Final = 4  # letters: a shorter word is near too many others
MOST: Final = 8  # words of a query that are looked up: no query that a person typed has more


def spelled(search: JoinedSearch, model: Model) -> JoinedSearch:
    """The search with `asked` as the model is to read it; untouched where its bundle reads queries
    as they are written."""
    if not model.spelling or search.asked is not None:
        return search
    query = search.event.user_query
    if not (unknown := _unsaid(_in_pieces(query, model), search)):
        return replace(search, asked=query)
    texts = dict.fromkeys(item_text(entry.item, model.template) for entry in search.entries)
    meant = corrections(unknown, texts)
    read = RUN.sub(lambda run: meant.get(run[0], run[0]), query) if meant else query
    return replace(search, asked=read)


def corrections(unknown: Sequence[str], texts: Iterable[str]) -> Mapping[str, str]:
    """Of each word that is misspelt, the word that is meant: of those one slip away the one that
    most texts have, in the form that most of them give it; then the first by its letters.

    >>> corrections(["headpones", "sony"], ["Sony headphones", "Headphones, black", "headphones"])
    {'headpones': 'headphones'}
    """
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for text in texts:
        for run in set(_words(text)):
            forms[run.lower()][run] += 1
    meant: dict[str, str] = {}
    for word in unknown:
        small = word.lower()
        begins = (small[0], small[1::-1])  # as it stands, or its first two letters swapped
        near = [each for each in forms if each.startswith(begins) and one_slip(small, each)]
        if near and small not in forms:
            best = min(near, key=lambda each: (-forms[each].total(), each))
            meant[word] = min(forms[best], key=lambda form: (-forms[best][form], form))
    return meant


def one_slip(one: str, other: str) -> bool:
    """Whether two words are one slip apart, and not equal.

    >>> [one_slip("bulb", each) for each in ("bulb", "blub", "bulbs", "bub", "bull", "lube")]
    [False, True, True, True, True, False]
    """
    short, long = sorted((one, other), key=len)
    if one == other or len(long) - len(short) > 1:
        return False
    at = next((n for n, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    if len(short) < len(long):
        return short[at:] == long[at + 1 :]
    swapped = short[at : at + 2] == long[at : at + 2][::-1]
    return short[at + 1 :] == long[at + 1 :] or (swapped and short[at + 2 :] == long[at + 2 :])


def _unsaid(words: Sequence[str], search: JoinedSearch) -> Sequence[str]:
    """Those of the words that no candidate says, in any of its texts."""
    if not words:
        return ()
    said = "\n".join(
        str(value).lower()
        for entry in search.entries
        for value in Fields(entry.item).values()
        if isinstance(value, str)
    )
    return [
        word for word in words if not re.search(rf"(?<!\w){re.escape(word.lower())}(?!\w)", said)
    ]


def _in_pieces(query: str, model: Model) -> Sequence[str]:
    """The query's words that the model has no token for, with a space before them or without."""
    words = list(dict.fromkeys(_words(query)))[:MOST]
    if not words:
        return ()
    nothing, *found = model.tokenize(["", *words, *(f" {word}" for word in words)])
    whole = len(nothing) + 1
    both = zip(words, found[: len(words)], found[len(words) :], strict=True)
    return [word for word, bare, spaced in both if min(len(bare), len(spaced)) > whole]


def _words(text: str) -> Iterator[str]:
    """The runs of letters that are long enough, of scripts that put spaces between words."""
    return (
        run[0]
        for run in RUN.finditer(text)
        if run[1] is None and len(run[0]) >= SHORTEST and run[0].isalpha() and _whole(run)
    )


def _whole(run: re.Match[str]) -> bool:
    """Whether no mark that belongs to a letter was cut off, as in scripts that write vowels so."""
    around = run.string[run.end() : run.end() + 1], run.string[: run.start()][-1:]
    return not any(each and unicodedata.category(each).startswith("M") for each in around)
