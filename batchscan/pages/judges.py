"""Who judged, as pages show it: the local engine is never taken for the cloud's."""

from typing import Final

import msgspec

from batchscan.pages.rendering import middle_cut

_LONGEST: Final = 120
_PLACES: Final = {
    "embedded": ("local", "Local engine on this machine"),
    "intl": ("cloud", "Tencent Cloud, international site"),
    "china": ("cloud", "Tencent Cloud, China site"),
}


class Judge(msgspec.Struct, frozen=True):
    """Who judged; ``kind`` is ``local``, ``cloud`` or ``other``."""

    kind: str
    endpoint: str
    name: str


def judge_of(endpoint: str) -> Judge:
    """Name an endpoint for a person."""
    kind, name = _PLACES.get(endpoint, ("other", f"Service at {middle_cut(endpoint, _LONGEST)}"))
    return Judge(kind, middle_cut(endpoint, _LONGEST), name)
