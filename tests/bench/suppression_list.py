"""Costs of a long suppression list: import, export, flat memory, and the look-up of a batch of recipients."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import psycopg

from mailglass import suppressions
from mailglass.ledger.suppressions import blocked_copies
from mailglass.mail.addresses import Address
from mailglass.runtime import get_runtime
from tests.bench.figures import Comparison, Side
from tests.bench.machine import Machine

ENTRIES = 1_000_000
_FEWER = 100_000
_MANY = 10_000_000
_FEW = 10_000
_BATCH = 100
_LOOKS = 200
_URL = "MAILGLASS_DATABASE_URL"
_GROW = """
INSERT INTO mailglass.suppressions (id, tenant_id, scope, value, reason, source)
SELECT gen_random_uuid(), 'acme', 'address', 'r' || n || '@example.com', 'hard_bounce', 'import'
FROM generate_series(%s::bigint, %s::bigint) n
"""


def run(machine: Machine) -> list[Comparison]:
    """Files of a million entries against a tenth of them, and look-ups in ten million against ten thousand."""
    imported, exported = {}, {}
    for size in (_FEWER, ENTRIES):
        with machine.ledger(), tempfile.TemporaryDirectory() as directory:
            imported[size], exported[size] = _rates(Path(directory), size)
    return [
        _compared("import", imported),
        _compared("export", exported),
        _memory(machine),
        _lookups(machine),
    ]


def _compared(what: str, rates: Mapping[int, float]) -> Comparison:
    many, few = (Side(f"{what} of {size:,} entries", [rates[size]], "rows/s") for size in (ENTRIES, _FEWER))
    return Comparison("suppressions", many, few, ">= 0.8")


def _file(directory: Path, size: int) -> Path:
    file = directory / "in.csv"
    with file.open("w", encoding="utf-8") as out:
        out.write("EmailAddress,SuppressionReason,CreatedAt\n")
        out.writelines(f"reader{number}@example.com,HardBounce,2026-01-02T03:04:05Z\n" for number in range(size))
    return file


def _rates(directory: Path, size: int) -> tuple[float, float]:
    """Return rows a second of an import and of an export."""
    file = _file(directory, size)
    began = time.perf_counter()
    suppressions.import_csv(file, tenant="acme")
    between = time.perf_counter()
    suppressions.export_csv(directory / "out.csv", tenant="acme")
    return size / (between - began), size / (time.perf_counter() - between)


def _memory(machine: Machine) -> Comparison:
    """Peak memory of Python's in an import and an export: of files beyond one statement it must not grow."""
    peaks = {}
    for size in (_FEW, _FEWER):
        with machine.ledger(), tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            file = _file(directory, size)
            tracemalloc.start()
            suppressions.import_csv(file, tenant="acme")
            suppressions.export_csv(directory / "out.csv", tenant="acme")
            peaks[size] = tracemalloc.get_traced_memory()[1] / 1e6
            tracemalloc.stop()
    label = "peak memory of import and export, {:,} entries"
    return Comparison(
        "suppressions",
        Side(label.format(_FEWER), [peaks[_FEWER]], "MB"),
        Side(label.format(_FEW), [peaks[_FEW]], "MB"),
        "<= 1.1",
    )


def _lookups(machine: Machine) -> Comparison:
    with (
        machine.ledger() as environment,
        psycopg.connect(environment["MAILGLASS_DATABASE_URL"], autocommit=True) as ledger,
    ):
        taken = {}
        known = 0
        for size in (_FEW, _MANY):
            ledger.execute(_GROW, (known + 1, size))
            ledger.execute("ANALYZE mailglass.suppressions")
            known = size
            taken[size] = _looks(size)
    return Comparison(
        "suppressions",
        Side(f"look-up of {_BATCH} recipients among {_MANY:,}", taken[_MANY], "ms"),
        Side(f"among {_FEW:,}", taken[_FEW], "ms"),
        "<= 2",
    )


def _looks(size: int) -> list[float]:
    chooser = random.Random(1)
    database = get_runtime().database
    looks = []
    for _ in range(_LOOKS):
        batch = [Address(f"r{chooser.randrange(2 * size)}@example.com") for _ in range(_BATCH)]
        began = time.perf_counter()
        blocked_copies(database, "acme", "bulk", batch)
        looks.append((time.perf_counter() - began) * 1000)
    return [statistics.median(looks)]
