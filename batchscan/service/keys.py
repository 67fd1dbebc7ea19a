"""What the parts of the service find in the application, by typed key. ``app`` tells who puts it there."""

from typing import Final

from aiohttp import web

from batchscan.execution import Station
from batchscan.ledger.queue import Queue
from batchscan.ledger.store import Ledger
from batchscan.metrics import Metrics
from batchscan.schedules.timekeeper import Timekeeper
from batchscan.service.dispatcher import Dispatcher
from batchscan.service.events import EventBroker
from batchscan.service.health import Pulse
from batchscan.service.orders import Orders
from batchscan.service.queue import RunQueue
from batchscan.service.quota_note import QuotaNote
from batchscan.service.roots import Roots
from batchscan.service.sessions import Sessions
from batchscan.service.state import ServiceState
from batchscan.service.stations import Stations
from batchscan.service.stream import Downloads
from batchscan.service.workers import Workers
from batchscan.service_config import ServiceConfig
from batchscan.settings import Settled

SETTLED: Final = web.AppKey("settled", Settled)
SERVICE_CONFIG: Final = web.AppKey("service_config", ServiceConfig)
STATE: Final = web.AppKey("state", ServiceState)
ROOTS: Final = web.AppKey("roots", Roots)
ORDERS: Final = web.AppKey("orders", Orders)
BROKER: Final = web.AppKey("broker", EventBroker)
WORKERS: Final = web.AppKey("workers", Workers)
STATIONS: Final = web.AppKey("stations", Stations)
STATION: Final = web.AppKey("station", Station)
"""Of the service's own endpoint: its ledger is the one that the queue is in."""

READER: Final = web.AppKey("reader", Ledger)
"""The same ledger once more, for look-ups: they hold up no run."""

ROWS: Final = web.AppKey("rows", Queue)
"""The queue by the reader."""

SESSIONS: Final = web.AppKey("sessions", Sessions)
METRICS: Final = web.AppKey("metrics", Metrics)
PULSE: Final = web.AppKey("pulse", Pulse)
QUOTA: Final = web.AppKey("quota", QuotaNote)
QUEUE: Final = web.AppKey("queue", RunQueue)
TIMEKEEPER: Final = web.AppKey("timekeeper", Timekeeper)
DISPATCHER: Final = web.AppKey("dispatcher", Dispatcher)
DOWNLOADS: Final = web.AppKey("downloads", Downloads)
