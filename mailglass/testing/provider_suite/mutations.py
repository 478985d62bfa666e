"""Bytes and texts that nobody meant: derived from genuine ones, the same for the same seed."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator, Sequence

_ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
_ODD = (
    b"",
    b"\x00",
    b"\xff\xfe",
    b"[]",
    b"{}",
    b"null",
    b"[null]",
    b"[[]]",
    b"[{}]",
    b'""',
    b"0",
    b"1e999",
    b"NaN",
    b"[" * 5000,
    b'{"a":' * 2000,
    b"--",
    b"--x\r\n",
    b"a=b&" * 2000,
    b'"\\ud800"',
    b"\xe4",
)
_PIECES = (
    b"null",
    b"{}",
    b"[]",
    b'""',
    b"true",
    b"-1",
    b"1e308",
    b'"\\u0000"',
    b'"\\ud83d"',
    b"99999999999999999999",
    b"'",
    b"\\",
    b"\r\n",
    b"%00",
    b"&",
    b"=",
    b"\x80",
)
_TEXTS = (
    "",
    " ",
    "Basic",
    "Basic =",
    "Bearer ",
    "v1,",
    "v1,=",
    "=",
    "ä",
    "\x7f",
    "\ud800",
    "x" * 9000,
    "0" * 400,
    "-1",
    "1e9",
    "9" * 12,
    "None",
)


def flipped(text: str, place: int) -> str:
    """Return the text with another character at a place: one that no reading takes for the same.

    A letter, digit, `+` or `/` becomes the one whose six bits differ in the first, so that not even the loose ends of
    base64 make it the same; letters do not change their case only.
    """
    old = text[place]
    new = _ALPHABET[(_ALPHABET.index(old) + 32) % 64] if old in _ALPHABET else "x"
    return text[:place] + new + text[place + 1 :]


def flipped_bytes(body: bytes, place: int) -> bytes:
    """Return the bytes with one bit turned at a place."""
    return body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]


def places(length: int, most: int) -> list[int]:
    """At most so many places, spread over a length, with its first and last."""
    if length <= most:
        return list(range(length))
    return sorted({round(step * (length - 1) / (most - 1)) for step in range(most)})


def damaged(samples: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Odd bodies, then `count` that were made of genuine ones by cutting, repeating and replacing pieces."""
    yield from _ODD
    dice = random.Random(seed)  # noqa: S311 - nothing secret hangs on it
    for _ in range(count if samples else 0):
        body = bytearray(dice.choice(samples))
        for _ in range(dice.randint(1, 4)):
            start = dice.randint(0, len(body))
            end = min(len(body), start + dice.choice((0, 1, 2, 8, 64)))
            body[start:end] = dice.choice((b"", bytes(body[start:end]) * 2, dice.choice(_PIECES), dice.randbytes(3)))
        yield bytes(body)


def odd_texts(genuine: str, count: int, seed: int) -> Iterator[str]:
    """Header values that nobody sends."""
    yield from (*_TEXTS, f"{genuine} {genuine}", genuine[::-1], f"{genuine.swapcase()}=")
    dice = random.Random(seed)  # noqa: S311 - nothing secret hangs on it
    for _ in range(count):
        yield "".join(
            chr(dice.choice((dice.randint(32, 126), dice.randint(1, 0x2FF)))) for _ in range(dice.randint(1, 40))
        )
