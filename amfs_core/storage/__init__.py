"""The adapter contract, and the client that makes an adapter patient, metered and safe to ask."""

from amfs_core.storage import refusals
from amfs_core.storage.adapter import (
    BatchingAdapter,
    ChangeLog,
    Doorbell,
    LoggedAdapter,
    ObjectInfo,
    StorageAdapter,
    check_adapter,
)
from amfs_core.storage.client import PAGE, StoreClient
from amfs_core.storage.doorbell import ListeningDoorbell, NoDoorbell, SilentDoorbell
from amfs_core.storage.metrics import Metrics
from amfs_core.storage.retry import DEFAULT_PATIENCE, Patience, named, one_call

__all__ = [
    "DEFAULT_PATIENCE",
    "PAGE",
    "BatchingAdapter",
    "ChangeLog",
    "Doorbell",
    "ListeningDoorbell",
    "LoggedAdapter",
    "Metrics",
    "NoDoorbell",
    "ObjectInfo",
    "Patience",
    "SilentDoorbell",
    "StorageAdapter",
    "StoreClient",
    "check_adapter",
    "named",
    "one_call",
    "refusals",
]
