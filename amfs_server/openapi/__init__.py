"""The description of the API, OpenAPI 3.1."""

from __future__ import annotations

from amfs_server.openapi.elements import Document
from amfs_server.openapi.objects import object_paths
from amfs_server.openapi.paths import paths
from amfs_server.openapi.schemas import schemas

__all__ = ["document"]


def document() -> Document:
    """Return the description of every resource."""
    from amfs import __version__

    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AMFS",
            "version": __version__,
            "summary": "Shared, versioned memory for AI agents.",
            "description": (
                "Names are percent-encoded segments of the path: the last one is the key, those "
                "before it are the entity path. Errors are problem documents (RFC 9457); each kind "
                "of error has its own `type`."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"key": []}],
        "paths": {**paths(), **object_paths()},
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }
