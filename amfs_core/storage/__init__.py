"""The adapter contract, and the client that makes an adapter patient, metered and safe to ask."""

from amfs_core.storage import refusals
from amfs_core.storage.adapter import (
    ChangeLog,
    Degraded,
    Doorbell,
    Lag,
    ObjectInfo,
    StorageAdapter,
)
from amfs_core.storage.admission import adopted, check_adapter
from amfs_core.storage.breaker import Breaker
from amfs_core.storage.capabilities import Capabilities
from amfs_core.storage.client import PAGE, StoreClient
from amfs_core.storage.doorbell import (
    BackgroundDoorbell,
    ListeningDoorbell,
    NoDoorbell,
    SilentDoorbell,
)
from amfs_core.storage.metrics import Meter, Metrics
from amfs_core.storage.omissions import Omissions
from amfs_core.storage.retry import DEFAULT_PATIENCE, Patience, named, one_call
from amfs_core.storage.wrapper import WrappedAdapter

__all__ = [
    "DEFAULT_PATIENCE",
    "PAGE",
    "BackgroundDoorbell",
    "Breaker",
    "Capabilities",
    "ChangeLog",
    "Degraded",
    "Doorbell",
    "Lag",
    "ListeningDoorbell",
    "Meter",
    "Metrics",
    "NoDoorbell",
    "ObjectInfo",
    "Omissions",
    "Patience",
    "SilentDoorbell",
    "StorageAdapter",
    "StoreClient",
    "WrappedAdapter",
    "adopted",
    "check_adapter",
    "named",
    "one_call",
    "refusals",
]
