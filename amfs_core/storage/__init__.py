"""The adapter contract, and the client that makes an adapter patient, metered and safe to ask."""

from amfs_core.storage import refusals
from amfs_core.storage.adapter import (
    BatchingAdapter,
    ChangeLog,
    CopyingAdapter,
    Degraded,
    Doorbell,
    Lag,
    LoggedAdapter,
    MirroredAdapter,
    ObjectInfo,
    StorageAdapter,
    check_adapter,
    lags_of,
    origin_of,
)
from amfs_core.storage.breaker import Breaker
from amfs_core.storage.client import PAGE, StoreClient
from amfs_core.storage.doorbell import ListeningDoorbell, NoDoorbell, SilentDoorbell
from amfs_core.storage.metrics import Meter, Metrics
from amfs_core.storage.retry import DEFAULT_PATIENCE, Patience, named, one_call
from amfs_core.storage.wrapper import WrappedAdapter

__all__ = [
    "DEFAULT_PATIENCE",
    "PAGE",
    "BatchingAdapter",
    "Breaker",
    "ChangeLog",
    "CopyingAdapter",
    "Degraded",
    "Doorbell",
    "Lag",
    "ListeningDoorbell",
    "LoggedAdapter",
    "Meter",
    "Metrics",
    "MirroredAdapter",
    "NoDoorbell",
    "ObjectInfo",
    "Patience",
    "SilentDoorbell",
    "StorageAdapter",
    "StoreClient",
    "WrappedAdapter",
    "check_adapter",
    "lags_of",
    "named",
    "one_call",
    "origin_of",
    "refusals",
]
