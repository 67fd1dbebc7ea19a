"""Where the service as a whole stands."""

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class ServiceState:
    """Plain facts; touched only from the event loop.

    Attributes:
        started_at: epoch seconds.
        draining: it has been told to stop.
        streams: event streams that are open.
        waited: the runs have had their time to stop.
    """

    started_at: float = field(default_factory=time.time)
    draining: bool = False
    streams: int = 0
    waited: bool = False
