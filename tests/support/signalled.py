"""A program that works on a memory until SIGTERM, whose handler uses the memory too and exits.

    python -m tests.support.signalled STORE VARIANT

Prints `ready` once the handler stands, and `ack KEY` for each write that was acknowledged.
"""

from __future__ import annotations

import faulthandler
import itertools
import os
import signal
import sys
from types import FrameType

from amfs import AgentMemory
from amfs_core.storage import StorageAdapter


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())  # `print` is not re-entrant


def opened(place: str) -> StorageAdapter:
    if place.startswith("s3:"):
        from amfs_s3 import S3Adapter

        _, bucket, prefix, endpoint, key, secret = place.split("|")
        return S3Adapter(
            bucket,
            prefix,
            endpoint,
            "us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )
    from amfs import open_store

    return open_store(place)


def main(place: str, variant: str) -> None:
    memory = AgentMemory(f"worker-{os.getpid()}", adapter=opened(place))
    name = str(os.getpid())

    def save(signum: int, frame: FrameType | None) -> None:
        faulthandler.dump_traceback_later(20, exit=True)  # a hang says where it is
        memory.write("last", name, "saved")
        say(f"ack last/{name}")
        if variant != "write":
            memory.read("last", name)
            memory.update("counts", name, lambda old: (old or 0) + 1)
            memory.write_many(
                [{"entity_path": "many", "key": f"{name}-last-{n}", "value": n} for n in range(4)]
            )
            for n in range(4):
                say(f"ack many/{name}-last-{n}")
            if variant == "all":
                assert memory.list("last")
            memory.close()
        os._exit(0)

    signal.signal(signal.SIGTERM, save)
    say("ready")
    for step in itertools.count():
        memory.write("work", f"{name}-{step}", step)
        say(f"ack work/{name}-{step}")
        memory.read("work", f"{name}-{step}")
        if variant != "write":
            memory.write_many(
                [{"entity_path": "many", "key": f"{name}-{step}-{n}", "value": n} for n in range(8)]
            )
            memory.update("counts", name, lambda old: (old or 0) + 1)
            if variant == "all":
                memory.list("work")
            memory.commit_outcome(f"{name}-{step}", "success", entries=[("counts", name)])


if __name__ == "__main__":
    main(*sys.argv[1:])
