"""Run mailglass against its peers and print one table. Nothing is asserted: a missed goal is shown as missed."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Iterator, Sequence

from mailglass import telemetry
from tests.bench.machine import SETTING, Machine
from tests.bench.peers import contest, queues
from tests.bench.peers.contestants import CONTESTANTS, HTTP, SMTP, Contestant
from tests.bench.peers.environment import QUEUES, has_sink, make_environment
from tests.bench.peers.receivers import DELAY_MS
from tests.bench.peers.results import Drain, Latency, Result, as_json, table

MAILS = 5_000
KILLED_FOR = 15.0
LEAST_KILLED = 200
NOTES = f"""
mails/s: a backlog, from letting warm workers go to the last acceptance; goal: against the fastest of the others
CPU: user and system, milliseconds a mail, of all worker processes, and of PostgreSQL and Valkey together
p50, p99: from the call to the acceptance of single mails, one every {contest.EVERY * 1000:.0f} ms
killed at: how many had arrived when all workers got SIGKILL; then they are started again and have
{contest.PATIENCE:.0f} s without an arrival. twice: accepted more than once; held: shown as uncertain, for a person;
lost: neither accepted nor shown as uncertain
smtp: Postfix's smtp-sink on loopback; http: a stand-in for Postmark that answers after {DELAY_MS} ms
servers: {SETTING}"""


def main() -> int:
    options = _options()
    telemetry.configure_logging("error", "console")
    only: list[str] = options.only or []
    with_queues, only_queues = not only or QUEUES in only, only == [QUEUES]
    pairs = [] if only_queues else [pair for pair in _pairs(only) if pair[0] != SMTP or has_sink()]
    results: list[Result] = []
    failed = 0
    if pairs:
        make_environment()
    with Machine() as machine:
        for transport, contestant in pairs:
            try:
                results.append(_run(machine, contestant, transport, options.mails, options.no_kill))
            except Exception:
                # the others are still worth their figures
                traceback.print_exc()
                failed += 1
        figures = queues.run(machine) if with_queues else {}
    if options.format == "json":
        print(as_json(results, queues.as_data(figures)))
    else:
        print("\n\n".join(page for page in (_page(results) if results else "", queues.table(figures)) if page))
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    names = [item.name for item in CONTESTANTS]
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        choices=[SMTP, HTTP, QUEUES, *names],
        metavar="NAME",
        help=f"a transport, the job queues or a contestant, several times: {', '.join([SMTP, HTTP, QUEUES, *names])}",
    )
    parser.add_argument("--mails", type=int, default=MAILS, help="of each backlog (%(default)s)")
    parser.add_argument("--no-kill", action="store_true", help="leave out the round with the kill")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    return parser.parse_args()


def _pairs(only: Sequence[str]) -> Iterator[tuple[str, Contestant]]:
    transports = [name for name in (SMTP, HTTP) if name in only] or [SMTP, HTTP]
    names = [item.name for item in CONTESTANTS if item.name in only] or [item.name for item in CONTESTANTS]
    for transport in transports:
        for contestant in CONTESTANTS:
            if contestant.name in names and transport in contestant.transports:
                yield transport, contestant


def _run(machine: Machine, contestant: Contestant, transport: str, mails: int, no_kill: bool) -> Result:
    drain: Drain | None = None
    latency: Latency | None = None
    if not contestant.only_killed:
        _say(transport, contestant, f"{mails} mails, then {contest.SINGLE} single ones")
        drain, latency = contest.run_rates(machine, contestant, transport, mails)
        _say(transport, contestant, f"{drain.rate:,.0f} mails/s, p50 {latency.p50:.0f} ms")
    kill = None
    if not no_kill:
        # a slow one is killed in the middle of a shorter backlog
        killed = mails if drain is None else min(mails, max(LEAST_KILLED, int(drain.rate * KILLED_FOR)))
        _say(transport, contestant, f"a kill in the middle of {killed} mails")
        kill = contest.run_kill(machine, contestant, transport, killed)
        _say(transport, contestant, f"{kill.twice} twice, {kill.lost} lost, {kill.held} held")
    return Result(transport, contestant.name, contestant.how, drain, latency, kill)


def _say(transport: str, contestant: Contestant, what: str) -> None:
    print(f"{contestant.name} by {transport}: {what}", file=sys.stderr, flush=True)


def _page(results: Sequence[Result]) -> str:
    hows = "\n".join(f"{name}: {how}" for name, how in {item.name: item.how for item in results}.items())
    return f"{table(results)}\n\n{hows}\n{NOTES}"


if __name__ == "__main__":
    sys.exit(main())
