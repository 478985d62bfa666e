"""The SMTP provider and the lab's SMTP server, together over real sockets."""

from __future__ import annotations

import asyncio
import smtplib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mailglass.clock import monotonic
from mailglass.ids import uuid7
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import Outcome
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.smtp import SMTPOptions, SMTPProvider
from mailglass.providers.smtp.opening import open_session
from mailglass.providers.smtp.pool import DROP_AFTER, SessionPool
from mailglass.rendering import mime
from mailglass.settings import Secret
from mailglass.testing.lab.smtp import MAX_SIZE, SMTPLab
from mailglass.testing.lab.weather import Climate, LabMail

PATIENCE = 20.0


class Running:
    """A lab that serves from a thread of its own."""

    def __init__(self, **options: Any) -> None:
        self.mails: list[LabMail] = []
        self.most_open = 0
        self.lab = SMTPLab(self._record, options.pop("weather", Climate()), **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self.lab.start(), self._loop).result(PATIENCE)

    def _record(self, mail: LabMail) -> None:
        self.most_open = max(self.most_open, len(self.lab.conversations))
        self.mails.append(mail)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.lab.stop(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()


@contextmanager
def running(**options: Any) -> Iterator[Running]:
    lab = Running(**options)
    try:
        yield lab
    finally:
        lab.stop()


@pytest.fixture
def lab() -> Iterator[Running]:
    with running() as lab:
        yield lab


@contextmanager
def provider(port: int, **options: Any) -> Iterator[SMTPProvider]:
    opened = SMTPProvider(
        "relay", SMTPOptions(**{"host": "127.0.0.1", "port": port, "security": "none", "timeout": PATIENCE, **options})
    )
    try:
        yield opened
    finally:
        opened.close()


def mail(recipient: str = "ada@example.com", **changes: Any) -> Outgoing:
    plain = Outgoing(
        delivery_id=uuid7(),
        tenant="acme",
        stream="transactional",
        recipient=Address(recipient),
        sender=Address("shop@example.org"),
        subject="Grüße, your order is on its way and this subject is long enough to be folded over several lines",
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        text="Thank you.",
    )
    return replace(plain, **changes)


def send(opened: SMTPProvider, *mails: Outgoing) -> list[Outcome]:
    return opened.send(mails, deadline=monotonic() + PATIENCE)


def brief(outcomes: list[Outcome]) -> list[tuple[str, str | None]]:
    return [(outcome.kind.value, outcome.reason) for outcome in outcomes]


def test_every_accepted_mail_is_counted_by_its_delivery_id(lab: Running) -> None:
    letters = [mail(f"user{number}@example.com") for number in range(25)]

    with provider(lab.port, max_connections=1) as opened:
        outcomes = send(opened, *letters)

    assert {outcome.kind for outcome in outcomes} == {"accepted"}
    assert lab.mails == [
        LabMail("smtp", str(letter.delivery_id), letter.recipient.email, letter.subject, len(mime.build(letter)))
        for letter in letters
    ]


def test_a_connection_is_kept_from_batch_to_batch(lab: Running) -> None:
    with provider(lab.port) as opened:
        for _ in range(5):
            send(opened, mail(), mail())

    assert len(lab.mails) == 10
    assert lab.lab.connections == 1


def test_a_connection_carries_no_more_mails_than_it_may(lab: Running) -> None:
    with provider(lab.port, max_connections=1, max_messages_per_connection=10) as opened:
        send(opened, *(mail() for _ in range(25)))
        send(opened, *(mail() for _ in range(5)))

    assert len(lab.mails) == 30
    assert lab.lab.connections == 3


def test_a_refused_mail_does_not_cost_the_connection(lab: Running) -> None:
    with provider(lab.port) as opened:
        outcomes = send(opened, mail("no.such.user@example.com"), mail(), mail("bounce+1@example.com"), mail())

    assert brief(outcomes) == [("rejected", "smtp_550"), ("accepted", None)] * 2
    assert outcomes[0].hard_bounce
    assert lab.lab.connections == 1


@pytest.mark.parametrize(
    ("recipient", "first"),
    [
        ("full.mailbox@example.com", ("transient", "smtp_451")),
        ("slow@example.com", ("transient", "smtp_451")),
        ("outage@example.com", ("transient", "smtp_451")),
        ("throttled@example.com", ("throttled", "smtp_451")),
        ("complains@example.com", ("accepted", None)),
        ("suppressed@example.com", ("accepted", None)),
    ],
)
def test_weather_that_passes_delivers_the_second_attempt(
    lab: Running, recipient: str, first: tuple[str, str | None]
) -> None:
    letter = mail(recipient)

    with provider(lab.port) as opened:
        outcomes = send(opened, letter) + send(opened, letter)

    assert brief(outcomes) == [first, ("accepted", None)]
    assert len(lab.mails) == (2 if first[0] == "accepted" else 1)


def test_weather_falls_on_each_delivery_for_itself(lab: Running) -> None:
    with provider(lab.port) as opened:
        outcomes = send(opened, mail("slow@example.com"), mail("slow@example.com"))

    assert brief(outcomes) == [("transient", "smtp_451")] * 2


def test_an_answer_that_the_lab_loses_is_uncertain_although_the_mail_was_taken(lab: Running) -> None:
    letter = mail("silence@example.com")

    with provider(lab.port) as opened:
        outcomes = send(opened, letter, mail())

    assert brief(outcomes) == [("uncertain", "answer_lost"), ("accepted", None)]
    first, second = lab.mails
    assert first.delivery_id == str(letter.delivery_id)
    assert second.delivery_id != first.delivery_id


def test_threads_share_the_connections_and_every_mail_goes_once(lab: Running) -> None:
    outcomes: list[Outcome] = []

    def work(opened: SMTPProvider) -> None:
        for _ in range(4):
            outcomes.extend(send(opened, *(mail() for _ in range(10))))

    with provider(lab.port, max_connections=3, max_messages_per_connection=25) as opened:
        threads = [threading.Thread(target=work, args=(opened,), daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)

    assert Counter(brief(outcomes)) == {("accepted", None): 320}
    assert set(Counter(taken.delivery_id for taken in lab.mails).values()) == {1}
    assert len(lab.mails) == 320
    # a session that is spent says QUIT before the next one is opened, but the lab may see the end of it later
    assert lab.most_open <= 3 + 1


PRELUDE = """
import sys
from datetime import UTC, datetime
from mailglass.mail.addresses import Address
from mailglass.clock import monotonic
from mailglass.ids import uuid7
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.smtp import SMTPOptions, SMTPProvider

port = int(sys.argv[1])

def letter(number):
    return Outgoing(
        delivery_id=uuid7(), tenant="acme", stream="bulk", recipient=Address(f"user{number}@example.com"),
        sender=Address("shop@example.org"), subject="Hello", created_at=datetime.now(UTC), text="Hello.",
    )
"""


def run(program: str, port: int, first: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, after PRELUDE."""
    return subprocess.run(
        [sys.executable, "-c", first + PRELUDE + program, str(port)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_greenlets_send_at_the_same_time(lab: Running) -> None:
    done = run(
        """
opened = SMTPProvider("relay", SMTPOptions(host="127.0.0.1", port=port, security="none", max_connections=5))

def work(number):
    letters = [letter(number) for _ in range(10)]
    return [outcome.kind.value for outcome in opened.send(letters, deadline=monotonic() + 20)]

jobs = [gevent.spawn(work, number) for number in range(20)]
gevent.joinall(jobs, raise_error=True)
opened.close()
assert {kind for job in jobs for kind in job.value} == {"accepted"}
""",
        lab.port,
        first="from gevent import monkey; monkey.patch_all(); import gevent",
    )

    assert done.returncode == 0, done.stderr
    assert set(Counter(taken.delivery_id for taken in lab.mails).values()) == {1}
    assert len(lab.mails) == 200
    assert lab.lab.connections == 5


def test_a_forked_child_does_not_speak_on_its_parents_connection(lab: Running) -> None:
    done = run(
        """
import os
letters = iter([letter(number) for number in range(3)])
opened = SMTPProvider("relay", SMTPOptions(host="127.0.0.1", port=port, security="none", max_connections=1))

def send():
    (outcome,) = opened.send([next(letters)], deadline=monotonic() + 20)
    return outcome.kind.value == "accepted"

assert send()
child = os.fork()
if not child:
    next(letters)
    os._exit(0 if send() else 1)
assert os.waitpid(child, 0)[1] == 0
assert send()
""",
        lab.port,
    )

    assert done.returncode == 0, done.stderr
    assert len({taken.delivery_id for taken in lab.mails}) == 3
    assert lab.lab.connections == 2


def test_connections_that_nobody_needs_any_more_are_closed_when_another_one_comes_back(lab: Running) -> None:
    options = SMTPOptions(host="127.0.0.1", port=lab.port, security="none")
    pool = SessionPool(lambda: open_session(options, None), limit=2)
    forgotten, busy = pool.take(), pool.take()
    pool.keep(forgotten)
    forgotten.last_used -= DROP_AFTER + 1

    pool.keep(busy)

    assert not forgotten.usable
    assert busy.usable
    pool.close()


def test_a_closed_provider_keeps_no_connection(lab: Running) -> None:
    with provider(lab.port) as opened:
        send(opened, mail())
        opened.close()
        assert brief(send(opened, mail())) == [("accepted", None)]
        send(opened, mail())

    assert lab.lab.connections == 3


@pytest.mark.parametrize(("password", "kind"), [("hunter2", "accepted"), ("wrong", "misconfigured")])
def test_the_lab_lets_only_the_right_password_in(password: str, kind: str) -> None:
    with (
        running(username="ada", password="hunter2", account="mine") as lab,
        provider(lab.port, username="ada", password=Secret(password)) as opened,
    ):
        assert send(opened, mail())[0].kind == kind
        assert [taken.account for taken in lab.mails] == ["mine"] * (kind == "accepted")


def test_without_credentials_a_lab_that_wants_some_is_misconfigured() -> None:
    with running(username="ada", password="hunter2") as lab, provider(lab.port) as opened:
        assert brief(send(opened, mail())) == [("misconfigured", "smtp_530")]


# the lab against an independent client


@pytest.fixture
def client(lab: Running) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("127.0.0.1", lab.port, timeout=PATIENCE) as client:
        client.ehlo()
        yield client


def test_the_lab_takes_mail_from_smtplib(lab: Running, client: smtplib.SMTP) -> None:
    body = b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nX-Mailglass-Id: 7\r\n\r\n.\r\n..\r\nend\r\n"

    client.sendmail("me@example.org", ["ada@example.com", "eve@example.com"], body)

    assert lab.mails == [LabMail("smtp", "7", "ada@example.com", "Grüße", len(body) + 2)]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("NONSENSE", 500),
        ("RCPT TO:<ada@example.com>", 503),
        ("DATA", 503),
        ("MAIL TO:<ada@example.com>", 501),
        ("MAIL FROM:ada@example.com", 501),
        (f"MAIL FROM:<a@example.com> SIZE={MAX_SIZE + 1}", 552),
        ("MAIL FROM:<jörg@example.com>", 550),
        ("MAIL FROM:<jörg@example.com> SMTPUTF8", 250),
        ('MAIL FROM:<"a > b"@example.com>', 250),
        ("MAIL FROM:<>", 250),
        ("STARTTLS", 454),
        ("AUTH PLAIN x", 503),
        ("NOOP", 250),
        ("RSET", 250),
        ("EHLO again", 250),
        ("x" * 5000, 500),
    ],
)
def test_the_lab_answers_as_a_server_does(client: smtplib.SMTP, command: str, code: int) -> None:
    client.command_encoding = "utf-8"

    assert client.docmd(command)[0] == code


def test_a_lab_that_stops_hangs_up() -> None:
    lab = Running()
    client = smtplib.SMTP("127.0.0.1", lab.port, timeout=PATIENCE)
    lab.stop()

    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        client.docmd("NOOP")
    client.close()
