"""Settings of the embedded endpoint, checked once, then frozen."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from batchscan.embedded.drill import Drill
from batchscan.embedded.wire import Action, Site

CAP_PRESETS: Mapping[Site, Mapping[Action, int]] = {
    # vendor: "maximum of N requests per second" on the pages of the four actions
    Site.EMBEDDED: {},
    Site.INTL: {Action.CREATE: 20, Action.RESULT: 100, Action.PAY_INFO: 20},
    Site.CHINA: {Action.CREATE: 3, Action.RESULT: 20, Action.PAY_INFO: 20, Action.TASK_LIST: 20},
}


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How one embedded endpoint behaves.

    Attributes:
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        secret_id: the only key that is known.
        secret_key: its secret.
        token: what ``X-TC-Token`` must be; None: a long-term key, which must come without a token.
        site: ``embedded``, ``intl`` or ``china``: presets of caps, actions, fields, time zone.
        caps: accepted requests per sliding second, by action name; None takes the site's preset, an
            action that is not named has no cap.
        engine_version: what Create binds new scans to.
        limit_bytes: largest ZIP.
        body_limit_bytes: largest request body.
        total_quota: units (files) that may be booked before Create is refused.
        store_path: SQLite file; several engines may share it.
        retention_s: how long a finished scan is kept, seconds.
        drill: faults to inject.
        stats: serve ``GET /-/stats`` to loopback callers.
        body_timeout_s: longest wait for a request body, including for its turn in memory.
        judge_timeout_s: longest judgement; a backstop above the detector's own limit.
        stop_timeout_s: how long requests in flight may take after a stop.

    Raises:
        ValueError: a value is out of range; the message names it.
    """

    secret_id: str
    secret_key: str
    engine_version: int
    total_quota: int
    store_path: Path
    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    site: str = Site.EMBEDDED
    caps: Mapping[str, int] | None = None
    limit_bytes: int = 7_340_032
    body_limit_bytes: int = 10 * 1024 * 1024
    retention_s: float = 90 * 86_400.0
    drill: Drill | None = None
    stats: bool = False
    body_timeout_s: float = 60.0
    judge_timeout_s: float = 300.0
    stop_timeout_s: float = 3.0

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is opened."""
        if self.site not in tuple(Site):
            raise ValueError(f"site must be one of {', '.join(Site)}, not {self.site!r}")
        if not self.secret_id or not self.secret_key:
            raise ValueError("secret_id and secret_key must not be empty")
        for name in ("limit_bytes", "body_limit_bytes", "retention_s", "judge_timeout_s", "body_timeout_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0")
        if self.total_quota < 0:
            raise ValueError("total_quota must not be negative")
        for action, cap in (self.caps or {}).items():
            if action not in tuple(Action):
                raise ValueError(f"caps: {action!r} is not an action; known: {', '.join(Action)}")
            if cap < 1:
                raise ValueError(f"caps: {action} must be at least 1 a second")

    def __repr__(self) -> str:
        """Without the key: settings end up in logs and tracebacks."""
        return f"EngineSettings(site={self.site!r}, host={self.host!r}, store_path={str(self.store_path)!r})"

    def effective_caps(self) -> Mapping[str, int]:
        """The caps in force, by action name."""
        if self.caps is not None:
            return self.caps
        return {str(action): cap for action, cap in CAP_PRESETS[Site(self.site)].items()}
