"""Run the benchmarks and print one table. Nothing is asserted: a goal that is missed is shown as missed."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable

from mailglass import telemetry
from tests.bench import (
    countdown,
    drain,
    enqueue,
    fairness,
    importing,
    ingress,
    lanes,
    old_ledger,
    pressure,
    slow_providers,
    suppression_list,
)
from tests.bench.figures import Comparison, as_json, table
from tests.bench.machine import SETTING, Machine

BENCHES: dict[str, Callable[[Machine], list[Comparison]]] = {
    "import": lambda machine: importing.run(),
    "enqueue": enqueue.run,
    "broker_down": enqueue.run_broker_down,
    "drain": drain.run,
    "old_ledger": old_ledger.run,
    "pressure": pressure.run,
    "fairness": fairness.run,
    "countdown": countdown.run,
    "slow_providers": slow_providers.run,
    "lanes": lanes.run,
    "ingress": ingress.run,
    "suppressions": suppression_list.run,
}

NOTES = f"""medians; ratios of medians, and of neighbouring rounds
servers: {SETTING}
against what others send mail with: make bench-peers"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=BENCHES, metavar="NAME", help=", ".join(BENCHES))
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    telemetry.configure_logging("error", "console")
    figures: list[Comparison] = []
    failed = 0
    with Machine() as machine:
        for name in options.only or BENCHES:
            print(f"{name} ...", file=sys.stderr, flush=True)
            try:
                figures.extend(BENCHES[name](machine))
            except Exception:
                # the others are still worth their figures
                traceback.print_exc()
                failed += 1
    if options.format == "json":
        print(as_json(figures))
    else:
        print(f"{table(figures)}\n\n{NOTES}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
