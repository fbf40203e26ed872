"""Chance: every choice comes from a hash of the seed and of what is chosen, so it depends on no order of reading."""

from __future__ import annotations

import hashlib
import random

__all__ = ["below", "dice", "rank", "rank64"]


def rank(seed: int, *names: str) -> bytes:
    """The place of what is called so among its like; 32 bytes, to sort by."""
    return hashlib.sha256(_told(seed, *names)).digest()


def below(count: int, seed: int, *names: str) -> int:
    """One of `range(count)`."""
    return int.from_bytes(rank(seed, *names)[:8], "big") % count


def rank64(*words: int | str) -> int:
    """A place below 2⁶⁴, short enough for arrays of millions, or a share of that range."""
    return int.from_bytes(hashlib.blake2b(_told(*words), digest_size=8).digest(), "big")


def dice(*words: int | str) -> random.Random:
    """A generator of its own for one thing that takes several choices."""
    return random.Random(":".join(map(str, words)))


def _told(*words: int | str) -> bytes:
    return "\0".join(map(str, words)).encode("utf-8", "surrogatepass")
