"""The memory tool of Claude, kept in AMFS (docs/anthropic.md)."""

from amfs_agents.anthropic.files import FileError
from amfs_agents.anthropic.tool import AMFSMemoryTool, AsyncAMFSMemoryTool

__all__ = ["AMFSMemoryTool", "AsyncAMFSMemoryTool", "FileError"]
