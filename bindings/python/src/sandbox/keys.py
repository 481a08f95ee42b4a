"""Keys with which somebody else may log in."""

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class AuthorizedKey:
    """A key with which somebody else than the clients may log in.

    key: the public key as a line of authorized_keys, with its comment.
    remaining: seconds for which it may log in yet; None is as long as the sandbox lives.
    """

    key: str
    remaining: Optional[float]
