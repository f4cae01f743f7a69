"""Requests to a store as spans, below the operation that makes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, cast

from opentelemetry.trace import SpanKind

from amfs_core.storage import BatchingAdapter, ObjectInfo, StorageAdapter, StoreClient
from amfs_otel.recorder import Attributes, Recorder

_original: list[Callable[..., None]] = []


def patch(recorder: Recorder) -> None:
    """Have the requests of every client recorded that is made from now on."""
    original = StoreClient.__init__
    _original.append(original)

    def made(self: StoreClient, adapter: StorageAdapter, *args: Any, **kwargs: Any) -> None:
        original(self, cast(StorageAdapter, RecordedAdapter(adapter, recorder)), *args, **kwargs)

    StoreClient.__init__ = made  # type: ignore[method-assign]


def unpatch() -> None:
    """Record the requests of new clients no more."""
    StoreClient.__init__ = _original.pop()  # type: ignore[method-assign]


class RecordedAdapter:
    """An adapter whose requests are recorded. Everything else is the adapter's own."""

    def __init__(self, adapter: StorageAdapter, recorder: Recorder) -> None:
        self._adapter = adapter
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._adapter, name)
        return self._create_many if name == "create_many" else found

    def create(self, key: str, data: bytes) -> bool:
        """Create an object."""
        with self._recorder.span(*self._about("create", key, len(data))) as span:
            created = self._adapter.create(key, data)
            span.set_attribute("amfs.store.created", created)
        return created

    def get(self, key: str) -> bytes | None:
        """Get an object."""
        with self._recorder.span(*self._about("get", key)) as span:
            data = self._adapter.get(key)
            span.set_attribute("amfs.store.bytes", len(data or b""))
        return data

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Get many objects: one span for all of them."""
        wanted = list(keys)
        name, _, attributes, labels = self._about("get_many", wanted[0] if wanted else "")
        return self._recorder.stream(
            name, attributes, labels, lambda: self._adapter.get_many(wanted)
        )

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """List objects: one span for all pages."""
        name, _, attributes, labels = self._about("list", prefix)
        return self._recorder.stream(
            name, attributes, labels, lambda: self._adapter.list(prefix, start_after)
        )

    def replace(self, key: str, data: bytes) -> None:
        """Replace an object."""
        with self._recorder.span(*self._about("replace", key, len(data))):
            self._adapter.replace(key, data)

    def delete(self, key: str) -> None:
        """Delete an object."""
        with self._recorder.span(*self._about("delete", key)):
            self._adapter.delete(key)

    def _create_many(self, objects: Mapping[str, bytes]) -> Collection[str]:
        batching = cast(BatchingAdapter, self._adapter)
        size = sum(map(len, objects.values()))
        with self._recorder.span(
            *self._about("create_many", next(iter(objects), ""), size)
        ) as span:
            created = batching.create_many(objects)
            span.set_attribute("amfs.store.objects", len(created))
        return created

    def _about(
        self, verb: str, key: str, size: int | None = None
    ) -> tuple[str, SpanKind, Attributes, Attributes]:
        attributes: dict[str, str | int] = {"amfs.store.key": key}
        if size is not None:
            attributes["amfs.store.bytes"] = size
        labels = {"amfs.store.request": verb, "amfs.store.backend": self._adapter.backend_type}
        return f"amfs.store.{verb}", SpanKind.CLIENT, attributes, labels
