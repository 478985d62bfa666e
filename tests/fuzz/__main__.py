"""Fuzz every room in turn, each in a process of its own. `FUZZ_MINUTES` (default 10) is divided among them."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from mailglass.providers.base import Provider
from mailglass.testing.provider_suite import Declaration
from tests.rooms import ROOMS

ROOT = Path(__file__).resolve().parents[2]
LONGEST_INPUT = 8192
SLOWEST_INPUT = 10  # seconds; a slower one is a finding
MEMORY = 2048  # MiB


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--room", action="append", choices=sorted(ROOMS), help="only this one; may be given again")
    options = parser.parse_args()
    rooms = options.room or [name for name, room in ROOMS.items() if _reads(room)]
    seconds = max(1, round(float(os.environ.get("FUZZ_MINUTES", "10")) * 60 / len(rooms)))
    failed = [name for name in rooms if not _fuzz(name, seconds)]
    print(f"{len(rooms) - len(failed)} passed, {len(failed)} failed{': ' + ', '.join(failed) if failed else ''}")
    return 1 if failed else 0


def _reads(room: type[Declaration]) -> bool:
    return room.provider_class.normalise is not Provider.normalise


def _fuzz(name: str, seconds: int) -> bool:
    from tests.fuzz.room import seeds

    with tempfile.TemporaryDirectory(prefix="mailglass-fuzz-") as scratch:
        corpus = Path(scratch) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds(ROOMS[name]())):
            (corpus / f"seed-{number}").write_bytes(seed)
        command = [
            sys.executable,
            "-m",
            "tests.fuzz.room",
            name,
            str(corpus),
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST_INPUT}",
            f"-timeout={SLOWEST_INPUT}",
            f"-rss_limit_mb={MEMORY}",
            f"-artifact_prefix={scratch}/found-",
            "-verbosity=0",
            "-print_final_stats=1",
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        runs = [line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line]
        print(f"{name}: {runs[0] if runs else '?'} inputs in {seconds} s{'' if done.returncode == 0 else ', FAILED'}")
        if done.returncode:
            told = (done.stdout + done.stderr).splitlines()
            print("\n".join(line for line in told if not line.startswith(("INFO: ", "WARNING: ", "stat::"))))
            for found in sorted(Path(scratch).glob("found-*")):
                print(f"the input, as Python writes it: {found.read_bytes()!r}")
        return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
