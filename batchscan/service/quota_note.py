"""The account's order as the API tells it, and the answer of a while ago."""

import asyncio
from typing import Annotated

from pydantic import Field

from batchscan.service.documents import Document


class WorkDocument(Document):
    """Contents, and the files inside them, as the service bills them."""

    skills: int
    files: int


class QuotaDocument(Document):
    """The account's order, as `batchscan quota --json` prints it. Amounts are files inside ZIPs."""

    schema_: Annotated[str, Field(alias="schema")]
    endpoint: str
    order: str | None
    pay_mode: str | None
    postpaid: str | None
    total: int | None
    used: int | None
    remaining: int | None
    begins: str | None
    ends: str | None
    now: str | None
    exhausted: bool
    unlimited: bool
    under_way: WorkDocument
    pending: WorkDocument
    room: int | None
    fitting: int | None


class QuotaNote:
    """The answer of a while ago, so that asking this service is not asking the vendor."""

    def __init__(self) -> None:
        self.asking = asyncio.Lock()
        self.document: QuotaDocument | None = None
        self.fresh_until = 0.0
