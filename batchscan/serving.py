"""What the command does that serves; returns the exit code and never exits."""

import asyncio
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from batchscan.commands import settle_for, write_aside
from batchscan.config import fault
from batchscan.errors import UsageError
from batchscan.service.serve import serve as run_service
from batchscan.service_config import ServiceConfig


def serve(settings: dict[str, Any], service: Mapping[str, Any]) -> int:
    """Serve until a signal comes.

    Args:
        settings: of all runs, as given by flags.
        service: of the service, likewise; what is None was not given.

    Raises:
        BatchscanError: it could not be started, or a part of it died.
    """
    settled = settle_for(settings)
    given = {name: value for name, value in service.items() if value is not None}
    try:
        config = ServiceConfig(**{**settled.service, **given})
    except ValidationError as error:
        wrong = error.errors()[0]
        raise UsageError(f"--{wrong['loc'][0]}: {fault(wrong)}") from error
    write_aside()
    return asyncio.run(run_service(settings, settled, config))
