"""The lab's witness: counts every accepted mail before its sender is answered, and remembers it across a crash."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mailglass.testing.lab.weather import LabMail


class Witness:
    """Record of the accepted mails, by delivery id, and of the recipients that the accounts refuse.

    With a state file, each line of which is one fact, all of it outlives the process, even one that is killed: the
    line is written before the answer is. Recipients stand there as digests.

    Args:
        path: the state file; made when it is missing, continued when it is there.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.received: Counter[str] = Counter()
        self.accounts: Counter[str] = Counter()
        self.unnamed = 0
        self._repeated = 0
        self._inactive: set[tuple[str, str]] = set()
        self._file: int | None = None
        if path is not None:
            self._continue(path)

    def accept(self, mails: Iterable[LabMail]) -> None:
        """Count mails as accepted."""
        lines = [("accepted", mail.account, mail.delivery_id) for mail in mails]
        self._write(lines)
        for line in lines:
            self._apply(*line)

    def deactivate(self, account: str, recipient: str) -> None:
        """Have the account refuse this recipient from now on."""
        line = ("inactive", account, _digest(recipient))
        if line[1:] not in self._inactive:
            self._write([line])
            self._apply(*line)

    def activate(self, account: str, recipient: str) -> None:
        """Have the account take mail for this recipient again."""
        line = ("active", account, _digest(recipient))
        if line[1:] in self._inactive:
            self._write([line])
            self._apply(*line)

    def inactive(self, account: str, recipient: str) -> bool:
        """Return whether the account refuses this recipient."""
        return (account, _digest(recipient)) in self._inactive

    def counts(self) -> dict[str, int]:
        """Totals: mails accepted, distinct deliveries, deliveries accepted more than once, mails without our id."""
        return {
            "accepted": self.accounts.total(),
            "deliveries": len(self.received),
            "repeated": self._repeated,
            "unnamed": self.unnamed,
        }

    def close(self) -> None:
        """Close the state file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _apply(self, fact: str, account: str, name: str) -> None:
        if fact == "inactive":
            self._inactive.add((account, name))
            return
        if fact == "active":
            self._inactive.discard((account, name))
            return
        self.accounts[account] += 1
        if not name:
            self.unnamed += 1
            return
        self.received[name] += 1
        self._repeated += self.received[name] == 2

    def _continue(self, path: Path) -> None:
        written = path.read_bytes() if path.exists() else b""
        whole = written[: written.rfind(b"\n") + 1]
        for line in whole.decode("utf-8", "replace").splitlines():
            fact, *names = line.split("\t")
            if fact in ("accepted", "inactive", "active") and len(names) == 2:
                self._apply(fact, *names)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        # what a crash cut off was never answered
        os.ftruncate(self._file, len(whole))

    def _write(self, lines: Iterable[tuple[str, str, str]]) -> None:
        if self._file is not None:
            text = "".join("\t".join(_field(part) for part in line) + "\n" for line in lines)
            os.write(self._file, text.encode())


def _field(part: str) -> str:
    return "".join(character if character.isprintable() else " " for character in part)


def _digest(recipient: str) -> str:
    return hashlib.sha256(recipient.lower().encode(errors="surrogatepass")).hexdigest()
