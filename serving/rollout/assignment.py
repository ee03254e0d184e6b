"""Which version answers a request: the same one for the same caller, as long as a rollout lasts.

    assignment = Assignment(Epoch("3f2a…", 2), canary=0.05, shadow=0.0, sticky="client")
    assigned = assignment.of(request_id, assignment.caller("key 7", request.headers))
    assigned.route, assigned.cell, assigned.shadowed        # "canary", 12, False
    evidence.record(assigned, answer)

A caller's place in [0, 1) is a hash of the rollout and of the caller's key, so that everybody is in one place for one
rollout and in another, independent of the first, for the next. The canary is all places below its share: when the share
grows callers come to it, and none leaves it. Without a key the request's id is the key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

from serving.rollout.cells import CELLS

_BITS: Final = 53  # of a float's mantissa: with more, the last places would be rounded up to 1
_CALLER: Final = b"caller"
_SHADOW: Final = b"shadow"


class Epoch(NamedTuple):
    """A time in which shares stay as they are. Each has evidence of its own.

    Attributes:
        rollout: its id.
        number: from 1 on, within the rollout.
    """

    rollout: str
    number: int


class Assigned(NamedTuple):
    """What is to be done with one request.

    Attributes:
        epoch: in which that was said.
        route: production is the champion, canary the candidate.
        cell: of the caller, for `Evidence`.
        shadowed: whether the candidate answers too, afterwards and for nobody.
    """

    epoch: Epoch
    route: Literal["production", "canary"]
    cell: int
    shadowed: bool


@dataclass(frozen=True)
class Assignment:
    """Shares of the traffic, as all workers hold them.

    Attributes:
        epoch: in which they hold.
        canary: share of the callers that the candidate answers; whole cells.
        shadow: share of the champion's requests that the candidate answers too.
        sticky: what callers are told apart by: client, request, or header: and the name of a header.
    """

    epoch: Epoch
    canary: float
    shadow: float
    sticky: str

    def caller(self, client: str | None, headers: Mapping[str, str]) -> str | None:
        """What tells this caller from others; None: nothing does.

        Args:
            client: whose API key it is: an id of it, not the key.
            headers: of the request, found whatever their case.
        """
        if self.sticky == "client":
            return client
        return headers.get(self.sticky.partition(":")[2]) if self.sticky != "request" else None

    def of(self, request_id: str, key: str | None = None) -> Assigned:
        """Assign a request.

        Args:
            request_id: an id that this request has for itself alone; a retry may have it again.
            key: of `caller`; None or empty: the request is a caller of its own.
        """
        cell = int(place(self.epoch.rollout, key or request_id) * CELLS)
        if cell < candidate_cells(self.canary):
            return Assigned(self.epoch, "canary", cell, False)
        shadowed = self.shadow > 0 and place(self.epoch.rollout, request_id, _SHADOW) < self.shadow
        return Assigned(self.epoch, "production", cell, shadowed)


def place(rollout: str, key: str, purpose: bytes = _CALLER) -> float:
    """A number in [0, 1), evenly spread over keys.

    Args:
        rollout: its id: places in two rollouts have nothing to do with one another.
        key: any text.
        purpose: up to 16 bytes; so do places for two purposes.
    """
    salt = blake2b(rollout.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, salt=salt, person=purpose).digest()
    return unit(digest)


def unit(digest: bytes) -> float:
    """Eight bytes as a number in [0, 1)."""
    return (int.from_bytes(digest, "big") >> (64 - _BITS)) / (1 << _BITS)


def candidate_cells(share: float) -> int:
    """How many cells, from the first on, the candidate answers."""
    return round(share * CELLS)
