"""Measures in a text, and the other ways in which people write the same ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Final, NamedTuple

from numpy.random import Generator


class Unit(NamedTuple):
    """A unit, or a count, as titles and queries know it."""

    kind: str  # what it measures: those of one kind can stand for each other
    size: int  # in the smallest of its kind
    names: str  # a regular expression
    ways: tuple[str, ...]  # to write so many; the first takes a number's word too


UNITS: Final = (
    Unit("length", 12, r"ft\.?|foot|feet|'", ("{}-foot", "{} foot", "{} ft", "{} ft.", "{}'")),
    Unit("length", 1, r'in\.|inch(?:es)?|"', ("{}-inch", "{} inch", "{} in.", '{}"')),
    Unit("metric", 10, "cm", ("{} cm", "{}cm")),
    Unit("metric", 1, "mm", ("{} mm", "{}mm")),
    Unit("mass", 1, "kg", ("{} kg", "{}kg")),
    Unit("weight", 16, r"lbs?\.?|pounds?", ("{}-pound", "{} pound", "{} lb", "{} lbs.")),
    Unit("weight", 1, r"oz\.?|ounces?", ("{}-ounce", "{} ounce", "{} oz", "{} oz.")),
    Unit("volume", 1, r"gal\.?|gallons?", ("{}-gallon", "{} gallon", "{} gal", "{} gal.")),
    Unit("pack", 1, r"packs?(?! of)|pk\.?", ("pack of {}", "{} pack", "{}-pack", "{} pk")),
)
"""A bare "in" is no inch: "4 in Black"."""
WORDS: Final = (
    *("one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
NUMBER: Final = rf"\d+(?:\.\d+)?|{'|'.join(WORDS)}"
MEASURE: Final = re.compile(
    r"(?<![\w.,/'\"-])"
    rf"(?:(?P<count>{NUMBER})[ -]?(?:{'|'.join(f'({unit.names})' for unit in UNITS)})"
    rf"|pack of (?P<packed>{NUMBER}))"
    r"(?!\w|[ .-]*lbs?\b)",
    re.IGNORECASE,
)
"""A number and its unit. No part of a fraction (1-1/2 in.), of thousands (1,000 lb), of a torque
(9 ft. lbs.) or of a model's name (A-5 ft)."""


def units(text: str, chance: Generator) -> str:
    """Each measure of the text written another way, of the same quantity.

    >>> import numpy as np
    >>> units("6 ft ladder, 12 pack", np.random.default_rng(2))
    '72 in. ladder, 12-pack'
    """

    def another(found: re.Match[str]) -> str:
        others = [way for way in ways(found) if way.casefold() != found[0].casefold()]
        return others[chance.integers(len(others))]

    return MEASURE.sub(another, text)


def ways(measure: re.Match[str]) -> Iterator[str]:
    """Every way to write what a match of MEASURE says; in another unit where that gives a whole
    number."""
    told = (measure["count"] or measure["packed"]).lower()
    number = str(WORDS.index(told) + 1) if told in WORDS else told
    unit = _unit(measure)
    for other in UNITS:
        if other.kind == unit.kind:
            count = Fraction(number) * unit.size / other.size
            if other is unit or count.denominator == 1:
                written = number if other is unit else str(count)
                yield from (way.format(written) for way in other.ways)
                if count in range(1, len(WORDS) + 1):
                    yield other.ways[0].format(WORDS[int(count) - 1])


def _unit(measure: re.Match[str]) -> Unit:
    """The unit whose names were found."""
    if measure["packed"]:
        return UNITS[-1]
    names = [each for number, each in enumerate(measure.groups(), 1) if number in NAMES]
    return next(unit for unit, name in zip(UNITS, names, strict=True) if name)


NAMES: Final = frozenset(range(1, MEASURE.groups + 1)) - frozenset(MEASURE.groupindex.values())
"""The groups of MEASURE that hold the names of UNITS, in order."""
