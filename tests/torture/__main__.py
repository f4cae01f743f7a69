"""`python -m tests.torture`: the long run, on one store or on all; 1 when a promise was broken.

Of all stores, one that cannot be had here is said to be left out.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.support.servers import ServerUnavailableError
from tests.torture.run import Options, torture
from tests.torture.stores import NAMES, own_cache


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--store", choices=[*NAMES, "all"], default="all")
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--operations", type=int, default=1000, help="of each process")
    parser.add_argument("--faults", type=float, default=0.15, help="share of requests")
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs of processes")
    parser.add_argument("--server-kills", type=int, default=3, help="SIGKILLs of the server")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=1800.0, help="when to give up")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**9) if arguments.seed is None else arguments.seed
    names = NAMES if arguments.store == "all" else (arguments.store,)
    with own_cache():
        return max(
            _run(
                Options(
                    store=name,
                    processes=arguments.processes,
                    operations=arguments.operations,
                    faults=arguments.faults,
                    kills=arguments.kills,
                    server_kills=arguments.server_kills,
                    seed=seed,
                    seconds=arguments.seconds,
                ),
                missing_is_fine=arguments.store == "all",
            )
            for name in names
        )


def _run(options: Options, *, missing_is_fine: bool) -> int:
    directory = Path(tempfile.mkdtemp(prefix=f"amfs-torture-{options.store}-"))
    print(f"seed {options.seed}, histories in {directory}", flush=True)
    try:
        report = torture(options, directory)
    except ServerUnavailableError as reason:
        shutil.rmtree(directory)
        print(f"NOT COVERED: {options.store} can't be had: {reason}", flush=True)
        return 0 if missing_is_fine else 1
    print(report, flush=True)
    if report.ok:
        shutil.rmtree(directory)
        return 0
    print(f"FAILED with --seed {options.seed}; histories kept in {directory}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
