"""Accepted findings. The model only, until the file's reader is here."""

import msgspec


class Suppression(msgspec.Struct, frozen=True, kw_only=True):
    """A finding that its owner has accepted for a while; it is shown and counted, never hidden.

    Attributes:
        reason: why, as the operator wrote it.
        owner: who answers for it.
        expires: the last day on which it holds, ``2027-01-31``.
    """

    reason: str
    owner: str
    expires: str
