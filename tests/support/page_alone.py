"""The Python examples of a page, run in their order with what is installed here, and nothing else.

    python page_alone.py PAGE

Imports no other module of the tests, as the environment may have only one extra of AMFS.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

_BLOCK = re.compile(r"(<!-- not run[^>]*-->\n+)?^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def run(page: Path) -> int:
    """Run the blocks as one program that grows, in an empty directory; return how many."""
    source = page.read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "__main__"}
    done = 0
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        for block in _BLOCK.finditer(source):
            if block[1]:
                continue
            lines = source.count("\n", 0, block.start(2))
            exec(compile("\n" * lines + block[2], str(page), "exec"), names)
            done += 1
        os.chdir("/")
    return done


if __name__ == "__main__":
    count = run(Path(sys.argv[1]).resolve())
    assert count, "there is nothing to run"
    print(f"{sys.argv[1]}: {count} examples")
