"""Finds card numbers, e-mail addresses and phone numbers in a text and masks them. Pure functions of text.

Masking twice is masking once. No pattern takes more than about linear time: repeats are bounded or possessive (`*+`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from itertools import accumulate
from typing import Literal

Kind = Literal["card", "email", "phone"]

# ---- e-mail: what stands before the @ but its first character ------------------------------------------------------------

# The domain is only looked at: what stands before a next @ may be one's domain and another's name.
EMAIL = re.compile(r"(?<![\w.%+-])([\w.%+-])[\w.%+-]*+(?=@[\w-]+(?:\.[\w-]+)*\.[^\W\d_][\w-]+)")

# ---- cards: 13 to 19 digits that pass the Luhn check, all but the last four -----------------------------------------------

SHORTEST, LONGEST, SHOWN = 13, 19, 4
RUN = re.compile(r"\d(?:[ \u00a0.\u2010-\u2015-]{0,3}\d){12,}")  # digits with what people put between them
GROUP = re.compile(r"\d+")
# A hash, a trace id, a UUID: the digits in them are no numbers.
HEX_ID = re.compile(r"(?<![\w-])(?=[\d-]*+[A-Fa-f])[0-9A-Fa-f-]{24,}(?![\w-])")


def _mask_run(run: str, mask: str) -> str:
    """Mask every card in a run of digits.

    A card begins and ends where a group of digits does. Its groups have four digits or more, but for the last, so that
    a row of small numbers is none. It does not begin after a point nor end before one, and a point in it stands between
    groups of at most six digits, so that a fraction is none.
    """
    places = [place for place, character in enumerate(run) if character.isdecimal()]
    digits = [int(run[place]) for place in places]
    count = len(digits)
    starts, ends, apart = ([False] * (count + 1) for _ in range(3))
    at = last = 0
    for group in GROUP.finditer(run):
        first, size = group.start(), len(group[0])
        pointed = first >= 2 and run[first - 1] == "." and run[first - 2].isdecimal()
        starts[at] = ends[at] = not pointed
        apart[at] = apart[at] or (pointed and max(size, last) > 6)
        at, last = at + size, size
        ends[at] = True
        apart[at] = size < 4
    breaks = list(accumulate(apart))  # how many places up to here no card goes across
    # Luhn's sum of any stretch by one subtraction: with the digits at odd places doubled, and with those at even ones.
    twice = [digit * 2 - 9 * (digit > 4) for digit in digits]
    odd = [0, *accumulate(twice[i] if i % 2 else digits[i] for i in range(count))]
    even = [0, *accumulate(digits[i] if i % 2 else twice[i] for i in range(count))]
    masked = list(run)
    for start in range(count - SHORTEST + 1):
        if not starts[start]:
            continue
        for end in range(start + SHORTEST, min(start + LONGEST, count) + 1):
            sums = odd if end % 2 else even
            if ends[end] and breaks[end - 1] == breaks[start] and (sums[end] - sums[start]) % 10 == 0:
                for place in places[start : end - SHOWN]:
                    masked[place] = mask
                starts[end - SHOWN] = True  # the digits that stay may begin another number
    return "".join(masked)


# ---- phones: every digit -------------------------------------------------------------------------------------------------

_GAP = r"[ \u00a0./()\u2010-\u2015-]"
_ALONE = r"(?<![\w#./-])"  # not the tail of an id, a date, a fraction
_END = r"(?!\d|[./]\d|-\w)"
_DATE = r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}(?!\d)|\d{2}[./-](?:19|20)\d\d(?!\d)"
_CALL = r"(?:tele)?phone|tel|mobile|cell|fax|whatsapp|sms|call|text|ring"
_CALL_AT = r"me|us|him|her|back|number|no|nr|is|at|on|to"

INTERNATIONAL = (
    rf"\+[1-9](?:{_GAP}{{0,3}}\d){{7,14}}{_END}",  # +49 (0)30 1234567
    rf"{_ALONE}00[1-9](?=\d{{0,4}}+{_GAP})(?:{_GAP}{{0,3}}\d){{8,13}}{_END}",  # 0044 20 7946 0958
    rf"(?<![^\W\d])(?i:{_CALL})\b(?:\W{{1,3}}(?i:{_CALL_AT})\b){{0,3}}\W{{1,4}}\d{{7,15}}+(?!\w)",  # call me at 2025550143
)
NATIONAL = (
    rf"(?:{_ALONE}1[ .-])?\([2-9]\d\d\)[ .-]?[2-9]\d\d[ .-]\d{{4}}{_END}",  # (202) 555-0143
    rf"{_ALONE}(?:1[ .-])?[2-9]\d\d[ .-][2-9]\d\d[ .-]\d{{4}}{_END}",  # 1-202-555-0143
    # 020 7946 0958, (030) 1234567, 06 12 34 56 78: a 0 to dial first, a gap after 2 to 5 digits, 9 to 12 in all
    rf"(?:{_ALONE}(?=\d{{2,5}}+{_GAP})(?!{_DATE})|\((?=\d{{2,5}}\)))0[1-9](?:{_GAP}{{0,2}}\d){{7,10}}{_END}",
)
PHONE = re.compile(f"{'|'.join(INTERNATIONAL)}|(?P<national>{'|'.join(NATIONAL)})")
# What a national form right after these words is instead.
ORDER = re.compile(
    r"(?i:\b(?:order|invoice|ref|reference|ticket|tracking|case|booking|account|confirmation|serial|id|sku)\b"
    r"(?:\W{1,2}(?:number|no|nr|id|is)\b){0,2}\W{0,3})$"
)
LOOK_BACK = 40  # characters
DIGIT = re.compile(r"\d")


def _mask_phones(text: str, mask: str) -> str:
    def masked(found: re.Match[str]) -> str:
        start = found.start()
        if found["national"] is not None and ORDER.search(text[max(0, start - LOOK_BACK) : start]):
            return found[0]
        return DIGIT.sub(lambda _: mask, found[0])

    return PHONE.sub(masked, text)


# ---- all of them ---------------------------------------------------------------------------------------------------------


def masker(kinds: Collection[Kind], mask: str = "*") -> Callable[[str], str]:
    """A function that masks these kinds in a text; a text with none of them comes back as the same object."""
    # The one check that most texts end at: an @, or seven digits close together.
    signs = ["@"] if "email" in kinds else []
    if "card" in kinds or "phone" in kinds:
        signs.append(r"\d(?:\W{0,3}\d){6}")
    may_hold = re.compile("|".join(signs) if signs else r"(?!)").search
    emails, cards, phones = "email" in kinds, "card" in kinds, "phone" in kinds

    def outside_ids(text: str) -> str:
        if cards:
            text = RUN.sub(lambda run: _mask_run(run[0], mask), text)
        return _mask_phones(text, mask) if phones else text

    def masked(text: str) -> str:
        if may_hold(text) is None:
            return text
        if emails:  # first: there may be digits in one
            text = EMAIL.sub(lambda found: f"{found[1]}{mask * 3}", text)
        if not (cards or phones):
            return text
        parts, at = [], 0
        for id in HEX_ID.finditer(text):
            parts += [outside_ids(text[at : id.start()]), id[0]]
            at = id.end()
        return "".join([*parts, outside_ids(text[at:])])

    return masked
