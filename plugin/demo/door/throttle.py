"""Wrong passwords are slowed: for each address, and for all together."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Throttle"]

#: Attempts of one address that are looked at without waiting, and the seconds between further ones.
FREE, INTERVAL = 5, 2.0
#: The same for all addresses together from which nobody has logged in yet.
FREE_TOGETHER, INTERVAL_TOGETHER = 40, 0.5
#: Nobody waits longer, in seconds: an attempt whose turn comes later is refused, so that few wait at a time.
LONGEST = 6.0
#: Addresses that are remembered.
MOST_ADDRESSES = 4096


class _Turns:
    """Turns to try: `free` at once, and after them one every `interval` seconds; unused ones come back as slowly."""

    def __init__(self, *, free: int, interval: float) -> None:
        self.ahead, self.interval = (free - 1) * interval, interval
        self.next = 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next turn."""
        return max(self.next - now - self.ahead, 0.0)

    def take(self, now: float) -> None:
        """One turn less."""
        self.next = max(self.next, now) + self.interval

    def give_back(self) -> None:
        """A turn that was no wrong password."""
        self.next -= self.interval


class Throttle:
    """How long an attempt to log in has to wait.

    Only wrong passwords count: the turn of a right one is given back. An address from which somebody has logged in is
    not held up by the attempts of others.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._together = _Turns(free=FREE_TOGETHER, interval=INTERVAL_TOGETHER)
        self._turns: OrderedDict[str, _Turns] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()

    def attempt(self, address: str) -> float | None:
        """Seconds that an attempt of this address waits before it is looked at; None if it is refused.

        `retry_after` says when to come again.
        """
        now, turns = self.clock(), self._turns_for(address)
        if (wait := max(one.wait(now) for one in turns)) > LONGEST:
            return None
        for one in turns:
            one.take(now)
        return wait

    def retry_after(self, address: str) -> float:
        """Seconds until an attempt of this address would not be refused."""
        now = self.clock()
        return max(0.0, max(one.wait(now) for one in self._turns_for(address)) - LONGEST)

    def was_right(self, address: str) -> None:
        """The attempt was no wrong password."""
        for one in self._turns_for(address):
            one.give_back()
        _remember(self._known, _network(address), None)

    def _turns_for(self, address: str) -> list[_Turns]:
        network = _network(address)
        own = self._turns.get(network) or _Turns(free=FREE, interval=INTERVAL)
        _remember(self._turns, network, own)
        return [own] if network in self._known else [own, self._together]


def _remember(found: OrderedDict, key: str, value) -> None:
    """Keep an entry as the newest, and not more than so many."""
    found[key] = value
    found.move_to_end(key)
    if len(found) > MOST_ADDRESSES:
        found.popitem(last=False)


def _network(address: str) -> str:
    """The address, or what one subscriber has of IPv6: a network of 64 bits."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if found.version == 6 and found.ipv4_mapped:
        found = found.ipv4_mapped
    return str(found) if found.version == 4 else str(ipaddress.ip_network((int(found), 64), strict=False))
