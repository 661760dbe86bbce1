"""Numbers that belong to somebody, recognised by their check digits: of cards, accounts and social security."""

import re
from collections.abc import Iterator

from depthwright.safety.terms import Hit

KINDS = ("card_number", "bank_account", "social_security_number")
_DIGITS = re.compile(r"[0-9]+(?:[ .-]?[0-9]+)*")
_DIGIT, _FEWEST = re.compile("[0-9]"), 9
_GROUP = re.compile(r"[0-9]+")
# Visa, Mastercard, American Express, Discover: how their numbers begin and how long they are.
_ISSUERS = re.compile(
    r"4[0-9]{15}|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}"
    r"|3[47][0-9]{13}|6(?:011|5[0-9]{2})[0-9]{12}"
)
_FIRST_DIGITS, _LONGEST_CARD, _CARDS = "23456", 16, (15, 16)
_ACCOUNT = re.compile(r"(?<![a-z0-9])([a-z]{2})[0-9]{2}(?=[ -]?[a-z0-9])")
_ACCOUNT_LENGTHS = {
    "ae": 23, "at": 20, "be": 16, "bg": 22, "ch": 21, "cy": 28, "cz": 24, "de": 22, "dk": 18, "ee": 20, "es": 24,
    "fi": 18, "fr": 27, "gb": 22, "gr": 27, "hr": 21, "hu": 28, "ie": 22, "il": 23, "it": 27, "lt": 20, "lu": 20,
    "lv": 21, "nl": 18, "no": 15, "pl": 28, "pt": 25, "ro": 24, "sa": 24, "se": 24, "si": 19, "sk": 24, "tr": 26,
}  # fmt: skip
_SOCIAL_SECURITY = re.compile(r"(?<![0-9])(?!000|666|9)[0-9]{3}[ .-]?[0-9]{2}[ .-]?[0-9]{4}(?![0-9])")


def numbers(text: str) -> Iterator[Hit]:
    """The numbers in a normalised text that pass their own checks."""
    if len(_DIGIT.findall(text)) < _FEWEST:
        return
    for run in _DIGITS.finditer(text):
        if run.end() - run.start() < _FEWEST:
            continue
        if _holds_card(_GROUP.findall(run[0])):
            yield Hit("card_number", "", False, run.start(), run.end())
        if _SOCIAL_SECURITY.search(run[0]):
            yield Hit("social_security_number", "", False, run.start(), run.end())
    for found in _ACCOUNT.finditer(text):
        length = _ACCOUNT_LENGTHS.get(found[1])
        if length and _is_account(text[found.start() : found.start() + 2 * length], length):
            yield Hit("bank_account", "", False, found.start(), found.end())


def _holds_card(groups: list[str]) -> bool:
    """Whether some of the groups of digits that follow one another make the number of a card."""
    for first in range(len(groups)):
        if groups[first][0] not in _FIRST_DIGITS:
            continue
        digits = ""
        for group in groups[first : first + _LONGEST_CARD]:
            digits += group
            if len(digits) > _LONGEST_CARD:
                break
            if len(digits) in _CARDS and _ISSUERS.fullmatch(digits) and _luhn(digits):
                return True
    return False


def _luhn(digits: str) -> bool:
    backwards = [int(digit) for digit in reversed(digits)]
    doubled = (sum(divmod(2 * digit, 10)) for digit in backwards[1::2])
    return (sum(backwards[::2]) + sum(doubled)) % 10 == 0


def _is_account(text: str, length: int) -> bool:
    """An IBAN by its check digits: the country's letters and they go last, and all of it leaves 1 by 97."""
    number = re.sub("[ -]", "", text)[:length]
    if len(number) != length or not number.isascii() or not number.isalnum():
        return False
    return int("".join(str(int(sign, 36)) for sign in number[4:] + number[:4])) % 97 == 1
