"""What keeps the embedded endpoint from running; refusals to its callers are ``wire.WireError``."""

from batchscan.errors import BatchscanError


class EngineError(BatchscanError):
    """The engine cannot start or go on: its address or its store cannot be used."""

    exit_code = 2


class StoreError(EngineError):
    """The store cannot be used: not writable, damaged, locked, or of another version."""
