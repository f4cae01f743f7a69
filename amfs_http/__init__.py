"""A store that an AMFS server keeps, over HTTP."""

from amfs_http.adapter import HttpAdapter

__all__ = ["HttpAdapter"]
