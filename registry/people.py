"""Who asks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Actor:
    """A person or a program.

    Attributes:
        name: as the server knows them, else as they say.
        authenticated: the server asked for a password; else the name is only a claim.
    """

    name: str
    authenticated: bool = False
