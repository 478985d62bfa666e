"""Connections that end after any byte: no mail goes twice, none is lost, none is called what it is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailglass.clock import monotonic
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.rendering import mime
from tests.smtp_counting import PATIENCE, Counting, Cut, counting
from tests.smtp_script import mail, provider

LOCAL_PARTS = ["ada", "ada", "ada", "rcpt550", "rcpt450", "dot554", "dot451"]
CUTS = st.one_of(
    st.builds(Cut, heard=st.integers(1, 3000), reset=st.booleans()),
    st.builds(Cut, said=st.integers(1, 600), reset=st.booleans()),
)
COPY = Address("copy@example.com")


@pytest.fixture(scope="module")
def server() -> Iterator[Counting]:
    with counting() as server:
        yield server


def letters(local_parts: Sequence[str], copied: Sequence[bool] = ()) -> list[Outgoing]:
    copies = [*copied, *[False] * len(local_parts)]
    return [
        mail(recipient=Address(f"{local}@example.com"), text=".\n..\nend", cc=(COPY,) if copied else ())
        for local, copied in zip(local_parts, copies, strict=False)
    ]


def check(server: Counting, mails: Sequence[Outgoing], outcomes: Sequence[Outcome]) -> None:
    for letter, outcome in zip(mails, outcomes, strict=True):
        taken = server.taken[str(letter.delivery_id)]
        assert taken <= 1, "a mail went twice"
        if outcome.kind is OutcomeClass.ACCEPTED:
            assert taken == 1, "accepted, and never taken"
        elif outcome.kind is not OutcomeClass.UNCERTAIN:
            assert taken == 0, f"taken, and called {outcome.kind}"
        if taken:
            assert server.contents[str(letter.delivery_id)] == mime.build(letter)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    local_parts=st.lists(st.sampled_from(LOCAL_PARTS), min_size=1, max_size=5),
    copied=st.lists(st.booleans(), max_size=5),
    cuts=st.lists(CUTS, max_size=3),
    connections=st.sampled_from([1, 3]),
)
def test_wherever_connections_end_no_mail_goes_twice_and_none_is_lost(
    server: Counting, local_parts: list[str], copied: list[bool], cuts: list[Cut], connections: int
) -> None:
    mails = letters(local_parts, copied)
    server.cuts.clear()
    server.cuts.extend(cuts)
    unsent = mails
    with provider(server.port, max_connections=connections) as opened:
        # what was certainly not sent is sent again, until the cuts are used up
        for _ in range(len(cuts) + 2):
            outcomes = opened.send(unsent, deadline=monotonic() + PATIENCE)
            check(server, unsent, outcomes)
            unsent = [
                letter
                for letter, outcome in zip(unsent, outcomes, strict=True)
                if outcome.kind is OutcomeClass.TRANSIENT
            ]
    assert {letter.recipient.local_part for letter in unsent} <= {"rcpt450", "dot451"}


@pytest.mark.parametrize(("side", "bytes_of_two_mails"), [("said", 300), ("heard", 1000)])
def test_a_connection_may_end_after_any_byte_of_two_mails(server: Counting, side: str, bytes_of_two_mails: int) -> None:
    """From the greeting on, past the first final dot and the envelope that rides behind it, to the last answer."""
    kinds: set[tuple[OutcomeClass, ...]] = set()
    for position in range(1, bytes_of_two_mails):
        mails = letters(["ada", "ada"])
        server.cuts.clear()
        server.cuts.append(Cut(**{side: position}, reset=position % 2 == 0))
        with provider(server.port) as opened:
            outcomes = opened.send(mails, deadline=monotonic() + PATIENCE)
        check(server, mails, outcomes)
        kinds.add(tuple(outcome.kind for outcome in outcomes))
    accepted, transient, uncertain = OutcomeClass.ACCEPTED, OutcomeClass.TRANSIENT, OutcomeClass.UNCERTAIN
    assert kinds >= {(accepted, accepted), (transient, accepted), (uncertain, accepted), (accepted, uncertain)}
