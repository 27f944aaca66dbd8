"""Rules that find e-mail addresses, phone numbers, bank accounts and payment cards. Pure."""

from __future__ import annotations

import re

from orchestration.core.secret_rules import VALUE, rule

IBAN_LENGTHS = range(15, 35)
"""ISO 13616."""


def _card(match: re.Match[str]) -> str:
    return VALUE if has_luhn_checksum(match[0]) else match[0]


def has_luhn_checksum(text: str) -> bool:
    """Return whether the digits of a text end with the check digit of a payment card (ISO/IEC 7812)."""
    digits = [int(char) for char in reversed(text) if char.isdigit()]
    doubled = (digit * 2 for digit in digits[1::2])
    return 13 <= len(digits) <= 19 and (sum(digits[::2]) + sum(one - 9 * (one > 9) for one in doubled)) % 10 == 0


def _iban(match: re.Match[str]) -> str:
    """Replace the longest beginning that is an IBAN: what follows it may look like more of it."""
    text = match[0]
    ends = [end for end in range(len(text), 14, -1) if end == len(text) or not text[end].isalnum()]
    end = next((end for end in ends if has_iban_checksum(text[:end])), None)
    return text if end is None else VALUE + text[end:]


def has_iban_checksum(text: str) -> bool:
    """Return whether a text is an IBAN by its length and check digits (ISO 7064, mod 97-10)."""
    whole = "".join(char for char in text.upper() if char.isalnum())
    if len(whole) not in IBAN_LENGTHS:
        return False
    return int("".join(str(int(char, 36)) for char in whole[4:] + whole[:4])) % 97 == 1


PERSONAL_DATA = (
    rule(
        r"(?<![\w.+%-])(?![\w.+-]{1,64}@[\w.-]{1,200}\.gserviceaccount\.com)[\w.+%-](?:[\w.+%-]|(?<=\w)'(?=\w)){0,63}@[\w-]{1,63}(?:\.[\w-]{1,63}+)+",
        VALUE,
    ),
    rule(r"(?<![\w.+%-])[\w.+-]{1,64}(?:%40| ?[\[(]at[\])] ?)[\w-]{1,63}(?:\.[\w-]{1,63}+)+", VALUE),
    rule(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{1,4}){3,9}(?![A-Za-z0-9])", _iban, re.NOFLAG),
    rule(r"(?<![A-Za-z0-9])[a-z]{2}\d{2}[a-z0-9]{11,30}(?![A-Za-z0-9])", _iban, re.NOFLAG),
    # Payment cards begin with 2 to 6; milliseconds since 1970 begin with 1
    rule(r"(?<![\w.+-])[2-6]\d{3}(?:[ -]?\d){9,15}(?![\w-])", _card),
    # International numbers, those of North America, and those with the 0 of a national number
    rule(r"(?<![\w+.])\+[1-9](?:[ ().\/-]{0,2}\d){7,14}(?![\w])", VALUE),
    rule(r"(?<![\w.+-])(?:1[ .-])?\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?![\w-])", VALUE),
    rule(r"(?<![\w.:+/-])(?:\(0\d{1,5}\)|00?[1-9]\d{1,4})[ /-]{1,3}\d{2,4}(?:[ /-]?\d{2,4}){1,3}(?![\w:-])", VALUE),
    rule(
        r"(\b(?:phone|telephone|tel|mobile|cell|fax|whatsapp|msisdn|sms)(?:[ _-]?(?:number|no|to))?\.?[\"']?\s{0,3}[:=]?\s{0,3}[\"']?)"
        r"(?=(?:\D{0,2}\d){6})[+(]?\d[\d ().\/-]{4,20}",
        rf"\1{VALUE}",
    ),
    # Social security numbers
    rule(r"(?<![\w.-])\d{3}-\d{2}-\d{4}(?![\w-])", VALUE),
)
