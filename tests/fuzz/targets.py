"""The readers of untrusted input, by the name that ``run.py`` and the tests know them by."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import text_targets
import zip_targets


@dataclass(frozen=True)
class Reader:
    """One of them.

    Attributes:
        feed: reads one input and checks what must hold; raises when the program is wrong.
        seeds: inputs to start from.
        max_bytes: longer inputs find nothing that shorter ones do not.
    """

    feed: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    max_bytes: int


READERS = {
    "archive": Reader(zip_targets.inspect, zip_targets.seeds, 16_384),
    "unpack": Reader(zip_targets.unpack, zip_targets.seeds, 16_384),
    "manifest": Reader(text_targets.manifests, text_targets.manifest_seeds, 4096),
    "reply": Reader(text_targets.replies, text_targets.reply_seeds, 4096),
    "credentials": Reader(text_targets.credentials, text_targets.credential_seeds, 2048),
    "drill": Reader(text_targets.drills, text_targets.drill_seeds, 512),
    "settings": Reader(text_targets.settings, text_targets.setting_seeds, 256),
}
