"""The id of a call that writes: from the kernel, whatever way there is to ask it."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path

import pytest

from amfs_core.testing.cases import in_forked_child
from amfs_core.versions import new_write_id, write_id


def test_an_id_is_128_bits_and_never_the_same() -> None:
    ids = {new_write_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", write_id) for write_id in ids)
    # Every digit varies: none of the bits is fixed.
    assert all(len({write_id[place] for write_id in ids}) == 16 for place in range(32))


def test_a_forked_child_has_other_ids(tmp_path: Path) -> None:
    new_write_id()
    told = tmp_path / "id"
    in_forked_child(lambda: told.write_text(new_write_id()))
    theirs = told.read_text()
    assert re.fullmatch("[0-9a-f]{32}", theirs)
    assert theirs != new_write_id()


@pytest.mark.skipif(sys.platform != "linux", reason="os.getrandom is Linux's")
@pytest.mark.parametrize("reason", [errno.ENOSYS, errno.EPERM])
def test_a_kernel_or_a_sandbox_without_getrandom_is_asked_by_urandom(
    reason: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(size: int, flags: int = 0) -> bytes:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "getrandom", refuse)
    assert write_id._source() is os.urandom
