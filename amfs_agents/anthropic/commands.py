"""The six commands of the memory tool on files, with the messages of the SDK's own backends."""

from __future__ import annotations

from amfs_agents.anthropic.files import FileError, Files, segments

_MAX_LINES = 999_999
_NUMBER_WIDTH = len(str(_MAX_LINES))
_DEPTH = 2


def view(files: Files, path: str, view_range: list[int] | None) -> str:
    """Show a file with line numbers, or what is in a directory."""
    entry = files.read(path)
    if entry is None:
        return _directory(files, path)
    if type(entry.value) is not str:
        raise FileError(f"Unsupported file type for {path}")
    lines = entry.value.split("\n")
    if len(lines) > _MAX_LINES:
        raise FileError(f"File {path} exceeds maximum line limit of 999,999 lines.")
    first, end = 0, len(lines)
    if view_range and len(view_range) == 2:
        first = max(1, view_range[0]) - 1
        end = len(lines) if view_range[1] == -1 else view_range[1]
    shown = _numbered(lines[first:end], first)
    return f"Here's the content of {path} with line numbers:\n{shown}"


def create(files: Files, path: str, text: str) -> str:
    """Write a new file."""
    files.create(path, text)
    return f"File created successfully at: {path}"


def str_replace(files: Files, path: str, old: str, new: str) -> str:
    """Replace a text that is in a file exactly once."""
    changed_line = 0

    def replaced(text: str | None) -> str:
        nonlocal changed_line
        content = _existing(files, path, text)
        count = content.count(old)
        if count == 0:
            raise FileError(
                f"No replacement was performed, old_str `{old}` did not appear verbatim in {path}."
            )
        if count > 1:
            lines = ", ".join(map(str, _lines_with(content, old)))
            raise FileError(
                f"No replacement was performed. Multiple occurrences of old_str `{old}` in lines: "
                f"{lines}. Please ensure it is unique"
            )
        changed_line = content[: content.find(old)].count("\n")
        return content.replace(old, new)

    lines = files.change(path, replaced).value.split("\n")
    first = max(0, changed_line - 2)
    snippet = _numbered(lines[first : changed_line + 3], first)
    return (
        "The memory file has been edited. Here is the snippet showing the change (with line "
        f"numbers):\n{snippet}"
    )


def insert(files: Files, path: str, line: int, inserted: str) -> str:
    """Insert a text after a line; 0 is the beginning of the file."""

    def with_text(text: str | None) -> str:
        lines = _existing(files, path, text).split("\n")
        if lines[-1] == "":
            lines.pop()
        if not 0 <= line <= len(lines):
            raise FileError(
                f"Invalid `insert_line` parameter: {line}. "
                f"It should be within the range [0, {len(lines)}]."
            )
        lines.insert(line, inserted.rstrip("\n"))
        content = "\n".join(lines)
        return content if content.endswith("\n") else f"{content}\n"

    files.change(path, with_text)
    return f"The file {path} has been edited."


def delete(files: Files, path: str) -> str:
    """Delete a file, or a directory with all that is in it."""
    if not segments(path):
        raise FileError("Cannot delete the /memories directory itself")
    if not files.delete(path):
        raise FileError(f"The path {path} does not exist")
    return f"Successfully deleted {path}"


def rename(files: Files, old: str, new: str) -> str:
    """Give a file or a directory another name."""
    if not segments(old):
        raise FileError("Cannot rename the /memories directory itself")
    files.rename(old, new)
    return f"Successfully renamed {old} to {new}"


def clear(files: Files) -> str:
    """Delete every file."""
    files.delete("/memories")
    return "All memory cleared"


def _existing(files: Files, path: str, text: str | None) -> str:
    if text is not None:
        return text
    if files.sizes(path) is not None:
        raise FileError(f"The path {path} is not a file.")
    raise FileError(f"The path {path} does not exist. Please provide a valid path.")


def _directory(files: Files, path: str) -> str:
    sizes = files.sizes(path)
    if sizes is None:
        raise FileError(f"The path {path} does not exist. Please provide a valid path.")
    totals: dict[tuple[str, ...], int] = {}
    names: dict[tuple[str, ...], str] = {}
    for place, size in sizes.items():
        if any(name.startswith(".") for name in place[:_DEPTH]):
            continue
        for depth in range(1, min(len(place), _DEPTH) + 1):
            above = place[:depth]
            totals[above] = totals.get(above, 0) + size
            names[above] = "/".join(above) + ("/" if depth < len(place) else "")
    lines = [f"{_size(sum(sizes.values()))}\t{path}"]
    lines += [f"{_size(totals[place])}\t{path}/{names[place]}" for place in sorted(totals)]
    listing = "\n".join(lines)
    return (
        f"Here're the files and directories up to 2 levels deep in {path}, "
        f"excluding hidden items:\n{listing}"
    )


def _numbered(lines: list[str], skipped: int) -> str:
    return "\n".join(
        f"{str(number).rjust(_NUMBER_WIDTH)}\t{line}"
        for number, line in enumerate(lines, skipped + 1)
    )


def _lines_with(content: str, text: str) -> list[int]:
    lines, start = [], 0
    while (position := content.find(text, start)) != -1:
        lines.append(content.count("\n", 0, position) + 1)
        start = position + 1
    return lines


def _size(size: int) -> str:
    """Return a number of bytes as the SDK shows it: 0B, 13B, 1.5K."""
    if size == 0:
        return "0B"
    power = min((size.bit_length() - 1) // 10, 3)
    scaled = size / 1024**power
    return f"{int(scaled) if scaled == int(scaled) else f'{scaled:.1f}'}{'BKMG'[power]}"
