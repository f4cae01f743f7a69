"""The explorer: a page that uses the API, served as static files."""

from __future__ import annotations

from importlib import resources

from starlette.responses import Response

_FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "explorer.js": ("explorer.js", "text/javascript; charset=utf-8"),
    "explorer.css": ("explorer.css", "text/css; charset=utf-8"),
}

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Allow nothing from other hosts and nothing inline, so a memory with a script in it stays text."""


def page(name: str) -> Response | None:
    """Return a file of the explorer, or None when there is no file of that name."""
    if name not in _FILES:
        return None
    file, kind = _FILES[name]
    content = resources.files(__package__).joinpath(file).read_bytes()
    return Response(
        content,
        headers={
            "content-security-policy": _POLICY,
            "referrer-policy": "no-referrer",
            "cache-control": "no-cache",
        },
        media_type=kind,
    )
