"""One `send` over several connections: where the server makes it wait, those that are free help."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from mailglass.clock import monotonic
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import EXPIRED, Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.smtp import SMTPOptions, SMTPProvider, sending
from mailglass.providers.smtp.prepared_mail import PreparedMail
from mailglass.providers.smtp.session import Session
from tests.smtp_counting import PATIENCE, Counting, Cut, counting
from tests.smtp_script import brief, mail, provider


@pytest.fixture
def server() -> Iterator[Counting]:
    with counting() as server:
        server.delay = 0.03
        yield server


def letters(count: int, *, refused: int = 0) -> list[Outgoing]:
    """So many mails, each `refused`-th to a recipient that is refused."""
    return [
        mail(recipient=Address(f"{'rcpt550' if refused and number % refused == 0 else 'ada'}@example.com"))
        for number in range(count)
    ]


def test_a_batch_goes_over_all_free_connections_and_its_outcomes_keep_their_order(server: Counting) -> None:
    mails = letters(60, refused=7)

    with provider(server.port, max_connections=4) as opened:
        outcomes = opened.send(mails, deadline=monotonic() + PATIENCE)

    assert server.most_open == 4
    assert brief(outcomes) == [
        ("rejected", "smtp_550") if number % 7 == 0 else ("accepted", None) for number in range(60)
    ]
    assert [outcome.provider_message_id for outcome in outcomes] == [
        None if number % 7 == 0 else f"{letter.delivery_id}@example.org" for number, letter in enumerate(mails)
    ]
    assert set(server.taken.values()) == {1}


def test_connections_that_helped_are_kept_for_the_next_batch(server: Counting) -> None:
    with provider(server.port, max_connections=3) as opened:
        for _ in range(3):
            assert {outcome.kind for outcome in opened.send(letters(30), deadline=monotonic() + PATIENCE)} == {
                "accepted"
            }

    assert server.connections == 3


def test_a_server_that_answers_at_once_gets_one_connection(server: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    server.delay = 0.0
    # as if no time passed, however busy this machine is
    moment = monotonic()
    monkeypatch.setattr(sending, "monotonic", lambda: moment)

    with provider(server.port, max_connections=4) as opened:
        outcomes = opened.send(letters(60), deadline=monotonic() + PATIENCE)

    assert {outcome.kind for outcome in outcomes} == {"accepted"}
    assert server.connections == 1


def test_an_account_takes_bigger_batches_the_more_connections_it_may_open() -> None:
    accounts = [SMTPProvider("relay", SMTPOptions(host="127.0.0.1", max_connections=count)) for count in (1, 2, 4, 64)]
    sizes = [account.batch_size for account in accounts]

    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]
    assert sizes[-1] <= 200


def test_a_batch_that_waits_for_its_first_connection_is_not_kept_waiting_by_anothers_second_one(
    server: Counting,
) -> None:
    finished: list[str] = []

    def send(opened: SMTPProvider, name: str, count: int) -> None:
        outcomes = opened.send(letters(count), deadline=monotonic() + PATIENCE)
        assert {outcome.kind for outcome in outcomes} == {"accepted"}
        finished.append(name)

    with provider(server.port, max_connections=2) as opened:
        long = threading.Thread(target=send, args=(opened, "long", 100), daemon=True)
        long.start()
        assert server.reaches(2)
        short = threading.Thread(target=send, args=(opened, "short", 1), daemon=True)
        short.start()
        short.join(PATIENCE)
        long.join(PATIENCE)

    assert finished == ["short", "long"]
    assert server.most_open == 2


def test_a_server_that_lets_only_some_connections_in_is_served_by_those(server: Counting) -> None:
    server.last = 2

    with provider(server.port, max_connections=4) as opened:
        outcomes = opened.send(letters(40), deadline=monotonic() + PATIENCE)

    assert brief(outcomes) == [("accepted", None)] * 40


def test_connections_that_break_under_helpers_lose_and_double_nothing(server: Counting) -> None:
    server.cuts.extend([Cut(), Cut(heard=900), Cut(said=200, reset=True), Cut(heard=1500, reset=True), Cut(said=150)])
    mails = letters(60)

    with provider(server.port, max_connections=4) as opened:
        outcomes = opened.send(mails, deadline=monotonic() + PATIENCE)

    kinds = Counter(outcome.kind for outcome in outcomes)
    assert kinds[OutcomeClass.ACCEPTED] >= 52
    for letter, outcome in zip(mails, outcomes, strict=True):
        taken = server.taken[str(letter.delivery_id)]
        assert taken == 1 if outcome.kind is OutcomeClass.ACCEPTED else taken <= 1
        assert not (taken and outcome.kind is OutcomeClass.TRANSIENT)


@pytest.mark.parametrize("cuts", [(Cut(), Cut(said=170)), (Cut(said=170), Cut())], ids=["helper", "caller"])
def test_mails_of_whoever_loses_its_connection_for_good_are_carried_by_the_other(
    server: Counting, cuts: tuple[Cut, Cut]
) -> None:
    server.last = 2
    server.cuts.extend(cuts)

    with provider(server.port, max_connections=2) as opened:
        outcomes = opened.send(letters(40), deadline=monotonic() + PATIENCE)

    # a connection that ends within a mail costs that one
    assert Counter(outcome.kind for outcome in outcomes)[OutcomeClass.ACCEPTED] >= 39
    assert set(server.taken.values()) == {1}


def test_after_the_deadline_helpers_start_nothing(server: Counting) -> None:
    with provider(server.port, max_connections=4) as opened:
        outcomes = opened.send(letters(200), deadline=monotonic() + 0.4)
        taken = len(server.taken)

    kinds = Counter(brief(outcomes))
    assert kinds[("transient", "deadline")] > 100
    assert set(kinds) == {("accepted", None), ("transient", "deadline")}
    assert kinds[("accepted", None)] == taken


class Interruption(Exception):
    """As Celery's soft time limit raises it: from a signal handler, in the main thread."""


def test_an_interrupted_batch_stops_its_helpers_and_gives_every_connection_back(server: Counting) -> None:
    def interrupt(*_: object) -> None:
        raise Interruption

    def wait_and_interrupt() -> None:
        assert server.reaches(3)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with provider(server.port, max_connections=3) as opened:
            threading.Thread(target=wait_and_interrupt, daemon=True).start()
            mails = letters(200)
            outcomes = opened.send(mails, deadline=monotonic() + PATIENCE)
            taken = len(server.taken)
            _say_what_is_known(server, mails, outcomes, "provider_error:Interruption", 2 * 3)
            # what helpers held they finish, and all slots come back
            outcomes = opened.send(letters(60), deadline=monotonic() + PATIENCE)
            assert {outcome.kind for outcome in outcomes} == {"accepted"}
            assert len(server.taken) <= taken + 60 + 2 * 3
            assert set(server.taken.values()) == {1}
    finally:
        signal.signal(signal.SIGUSR1, before)


def _say_what_is_known(
    server: Counting, mails: list[Outgoing], outcomes: list[Outcome], reason: str, held: int
) -> None:
    """Who was answered is accepted, who was in nobody's hands is unsent, and only the others are uncertain."""
    kinds = Counter(brief(outcomes))
    assert set(kinds) <= {("accepted", None), ("transient", "deadline"), ("uncertain", reason)}
    assert kinds[("accepted", None)]
    assert kinds[("transient", "deadline")]
    assert kinds[("uncertain", reason)] <= held
    for letter, outcome in zip(mails, outcomes, strict=True):
        taken = server.taken[str(letter.delivery_id)]
        assert outcome.kind is OutcomeClass.UNCERTAIN or taken == (outcome.kind is OutcomeClass.ACCEPTED)


def test_a_fault_of_ours_under_a_helper_leaves_only_its_own_mail_uncertain(
    server: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller must not call a mail unsent whose helper fell over in the middle, nor its neighbours uncertain."""
    transmit = Session.transmit

    def fall_over(self: Session, letter: PreparedMail, following: PreparedMail | None = None) -> Outcome:
        outcome = transmit(self, letter, following)
        if threading.current_thread() is not threading.main_thread():
            raise KeyError("a fault of ours")
        return outcome

    monkeypatch.setattr(Session, "transmit", fall_over)
    mails = letters(60)
    with provider(server.port, max_connections=2) as opened:
        outcomes = opened.send(mails, deadline=monotonic() + PATIENCE)

    _say_what_is_known(server, mails, outcomes, "provider_error:KeyError", 1)
    assert brief(outcomes).count(("uncertain", "provider_error:KeyError")) == 1


def test_a_mail_that_cannot_be_packed_is_the_only_one_unsent(server: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    mails = letters(4)
    with provider(server.port) as opened:
        packed = opened._pack

        def pack(letter: Outgoing) -> PreparedMail:
            if letter is mails[2]:
                raise KeyError("a fault of ours")
            return packed(letter)

        monkeypatch.setattr(opened, "_pack", pack)
        outcomes = opened.send(mails, deadline=monotonic() + PATIENCE)
    assert brief(outcomes) == [
        ("accepted", None),
        ("accepted", None),
        ("transient", "encode_failed"),
        ("accepted", None),
    ]
    assert set(server.taken.values()) == {1}
    assert len(server.taken) == 3


def test_a_time_limit_that_strikes_while_a_mail_is_packed_ends_the_batch(
    server: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    mails = letters(4)
    with provider(server.port) as opened:
        packed, struck = opened._pack, []

        def pack(letter: Outgoing) -> PreparedMail:
            if letter is mails[2] and not struck:
                struck.append(letter)
                raise KeyError("as a time limit does, once")
            return packed(letter)

        monkeypatch.setattr(opened, "_pack", pack)
        outcomes = opened.send(mails, deadline=monotonic() + PATIENCE)

    # the one before it was about to be said, and was not
    assert brief(outcomes) == [
        ("accepted", None),
        ("transient", "deadline"),
        ("transient", "encode_failed"),
        ("transient", "deadline"),
    ]
    assert set(server.taken.values()) == {1}
    assert len(server.taken) == 1


def test_a_mail_that_has_expired_when_its_turn_comes_is_not_begun(server: Counting) -> None:
    mails = letters(6)
    for index in (0, 3, 5):
        mails[index] = replace(mails[index], start_by=monotonic())
    mails[1] = replace(mails[1], start_by=monotonic() + PATIENCE)
    with provider(server.port) as opened:
        outcomes = opened.send(mails, deadline=monotonic() + PATIENCE)
    assert [index for index, outcome in enumerate(outcomes) if outcome == EXPIRED] == [0, 3, 5]
    assert brief(outcomes).count(("accepted", None)) == 3
    assert len(server.taken) == 3


PROGRAM = """
import os, sys
from tests.smtp_script import mail
from mailglass.clock import monotonic
from mailglass.providers.smtp import SMTPOptions, SMTPProvider

opened = SMTPProvider(
    "relay", SMTPOptions(host="127.0.0.1", port=int(sys.argv[1]), security="none", max_connections=4)
)

def send():
    outcomes = opened.send([mail() for _ in range(40)], deadline=monotonic() + 20)
    assert {outcome.kind.value for outcome in outcomes} == {"accepted"}

send()
"""


def run(program: str, port: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program, str(port)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_greenlets_help_too(server: Counting) -> None:
    run("from gevent import monkey; monkey.patch_all()\n" + PROGRAM, server.port)

    assert server.connections == 4
    assert set(server.taken.values()) == {1}
    assert len(server.taken) == 40


def test_a_forked_child_spreads_over_connections_of_its_own(server: Counting) -> None:
    run(
        PROGRAM
        + """
child = os.fork()
send()
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
""",
        server.port,
    )

    assert server.connections == 8
    assert set(server.taken.values()) == {1}
    assert len(server.taken) == 120
