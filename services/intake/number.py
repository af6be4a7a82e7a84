"""Complaint numbers as people use them: ``LP-7K3M-9QX2-T``, random, in Crockford's base 32, with a check character.

Eight random characters (40 bits) say nothing of how many complaints there are; two complaints with one number are
refused by the journal and a new number is drawn. The check character (Luhn's algorithm with modulus 32) catches every
wrong character and nearly every swapped pair, so a mistyped number is told at once.
"""

import secrets

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUE = {letter: value for value, letter in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_LENGTH = 8


def new_number() -> str:
    """A random number with its check character."""
    body = "".join(_ALPHABET[byte % 32] for byte in secrets.token_bytes(_LENGTH))  # 256 is a multiple of 32
    return _shown(body + _check(body))


def parse_number(text: str) -> str:
    """The number as it is stored, from what a person typed. Raises ValueError if it cannot be one."""
    letters = text.upper().replace("-", "").replace(" ", "").removeprefix("LP")
    if len(letters) != _LENGTH + 1 or any(letter not in _VALUE for letter in letters):
        raise ValueError("a number looks like LP-7K3M-9QX2-T")
    letters = "".join(_ALPHABET[_VALUE[letter]] for letter in letters)
    if _check(letters[:-1]) != letters[-1]:
        raise ValueError("this number has a typing error: its last character does not fit the others")
    return _shown(letters)


def _shown(letters: str) -> str:
    return f"LP-{letters[:4]}-{letters[4:8]}-{letters[8]}"


def _check(body: str) -> str:
    total = 0
    for position, letter in enumerate(reversed(body)):
        value = _VALUE[letter] * (2 if position % 2 == 0 else 1)
        total += value // 32 + value % 32
    return _ALPHABET[-total % 32]
