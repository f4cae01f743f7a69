"""Requests to a store as spans, below the operation that makes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from opentelemetry.trace import SpanKind

from amfs_core.storage import ObjectInfo, StorageAdapter, StoreClient, WrappedAdapter
from amfs_otel.recorder import Attributes, Recorder

_original: list[Callable[..., None]] = []


def patch(recorder: Recorder) -> None:
    """Start recording the requests of every client made from now on."""
    original = StoreClient.__init__
    _original.append(original)

    def made(self: StoreClient, adapter: StorageAdapter, *args: Any, **kwargs: Any) -> None:
        original(self, RecordedAdapter(adapter, recorder), *args, **kwargs)

    StoreClient.__init__ = made  # type: ignore[method-assign]


def unpatch() -> None:
    """Stop recording the requests of new clients."""
    StoreClient.__init__ = _original.pop()  # type: ignore[method-assign]


class RecordedAdapter(WrappedAdapter):
    """An adapter whose requests are recorded. Everything else is the adapter's own."""

    def __init__(self, adapter: StorageAdapter, recorder: Recorder) -> None:
        super().__init__(adapter)
        self._recorder = recorder

    def create(self, key: str, data: bytes) -> bool:
        """Create an object."""
        with self._recorder.span(*self._about("create", key, len(data))) as span:
            created = self.inner.create(key, data)
            span.set_attribute("amfs.store.created", created)
        return created

    def get(self, key: str) -> bytes | None:
        """Get an object."""
        with self._recorder.span(*self._about("get", key)) as span:
            data = self.inner.get(key)
            span.set_attribute("amfs.store.bytes", len(data or b""))
        return data

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Get many objects: one span for all of them."""
        wanted = list(keys)
        name, _, attributes, labels = self._about("get_many", wanted[0] if wanted else "")
        return self._recorder.stream(name, attributes, labels, lambda: self.inner.get_many(wanted))

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """List objects: one span for all pages."""
        name, _, attributes, labels = self._about("list", prefix)
        return self._recorder.stream(
            name, attributes, labels, lambda: self.inner.list(prefix, start_after)
        )

    def replace(self, key: str, data: bytes) -> None:
        """Replace an object."""
        with self._recorder.span(*self._about("replace", key, len(data))):
            self.inner.replace(key, data)

    def delete(self, key: str) -> None:
        """Delete an object."""
        with self._recorder.span(*self._about("delete", key)):
            self.inner.delete(key)

    def create_many(self, objects: Mapping[str, bytes]) -> Collection[str]:
        """Create objects together: one span for all of them."""
        size = sum(map(len, objects.values()))
        with self._recorder.span(
            *self._about("create_many", next(iter(objects), ""), size)
        ) as span:
            created = self.inner.create_many(objects)
            span.set_attribute("amfs.store.objects", len(created))
        return created

    def _about(
        self, verb: str, key: str, size: int | None = None
    ) -> tuple[str, SpanKind, Attributes, Attributes]:
        attributes: dict[str, str | int] = {"amfs.store.key": key}
        if size is not None:
            attributes["amfs.store.bytes"] = size
        labels = {"amfs.store.request": verb, "amfs.store.backend": self.inner.backend_type}
        return f"amfs.store.{verb}", SpanKind.CLIENT, attributes, labels
