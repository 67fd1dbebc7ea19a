"""What can be set of the service: the table ``[service]`` of the settings file. No secret is a setting.

The keys are those of the file. Paths in it start at the file.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from batchscan.config import Place, fault

SERVICE: Final = "service"
DEFAULT_PORT: Final = 8440


class ServiceConfig(BaseModel):
    """How `batchscan serve` listens and what it lets its callers do.

    Attributes:
        host: address to listen on; any but loopback asks for a ``token_file``.
        port: 0 takes a free one.
        token_file: holds the bearer token that callers show.
        hosts: names that callers may reach it by, beside the address and ``localhost``.
        roots: directories whose files may be scanned on a caller's word; without any, none may.
        max_runs: runs under way at a time.
        max_streams: event streams that are open at a time.
        request_rate: requests a second of one caller, on average over ten seconds.
        max_body: bytes of one request's body.
        keep_runs_days: days since its end that a run is known for; 0: for ever.
        behind_https: a proxy ends TLS and says so in ``X-Forwarded-Proto``, which is believed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    host: Annotated[str, Field(min_length=1, max_length=255)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = DEFAULT_PORT
    token_file: Annotated[Place | None, Field(strict=False)] = None
    hosts: Annotated[tuple[str, ...], Field(strict=False)] = ()
    roots: Annotated[tuple[Annotated[Place, Field(strict=False)], ...], Field(strict=False)] = ()
    max_runs: Annotated[int, Field(ge=1, le=16)] = 2
    max_streams: Annotated[int, Field(ge=1, le=10_000)] = 200
    request_rate: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] = 20.0
    max_body: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)] = 1024 * 1024
    keep_runs_days: Annotated[int, Field(ge=0, le=36_500)] = 90
    behind_https: bool = False


PATHS: Final = frozenset({"token_file", "roots"})
"""Keys whose values are paths."""


def service_faults(values: Mapping[str, Any]) -> dict[str, str]:
    """Check the keys by themselves; says of each wrong one what is wrong with it."""
    try:
        ServiceConfig(**values)
    except ValidationError as error:
        return {str(e["loc"][0]): fault(e) for e in error.errors()}
    return {}
