"""Tests of sending: one outcome a mail, nothing twice, nothing lost without a word, nothing unsaid."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from mailglass.clock import monotonic
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.base import Provider
from mailglass.testing.provider_suite.declaration import Declaration, Feature, send
from mailglass.testing.provider_suite.mails import HOSTILE, RECIPIENT, hostile, labels, plain
from mailglass.testing.provider_suite.wire import Reply, Seen, Wire

_NAMED = re.compile(
    r"(?:unsupported|invalid)_[a-z0-9_]+|option_conflict|message_invalid|too_large|[a-z0-9]+_unsupported"
)
_FAILED = frozenset({OutcomeClass.TRANSIENT, OutcomeClass.UNCERTAIN})
# of one request and not of its mail: a date, a signature over it, and what belongs to the connection
_OF_THE_MOMENT = frozenset(
    {"date", "x-amz-date", "authorization", "connection", "amz-sdk-invocation-id", "amz-sdk-request"}
)


class SendingSuite(Declaration):
    """`send` against a provider on loopback."""

    def test_every_mail_gets_one_outcome_in_its_place(self, provider: Provider, wire: Wire) -> None:
        mails = [plain(f"no{number}") for number in range(min(provider.batch_size, 7))]
        poisoned = mails[min(1, len(mails) - 1)]

        def behave(request: Seen) -> Reply:
            return self.refuse(request) if self.holds(request, str(poisoned.delivery_id)) else self.accept(request)

        wire.behaviour = behave
        outcomes = send(provider, *mails)
        refused = [mail for mail, outcome in zip(mails, outcomes, strict=True) if outcome.kind is OutcomeClass.REJECTED]
        assert refused == [poisoned], "the one mail that is refused, in its place, and no other"
        others = [outcome for mail, outcome in zip(mails, outcomes, strict=True) if mail is not poisoned]
        assert {outcome.kind for outcome in others} <= {OutcomeClass.ACCEPTED}

    def test_no_mail_is_sent_twice_in_one_call(self, provider: Provider, wire: Wire) -> None:
        mails = [plain(f"no{number}") for number in range(5)]
        assert {outcome.kind for outcome in send(provider, *mails)} == {OutcomeClass.ACCEPTED}
        for mail in mails:
            assert self._requests_of(wire, mail) == 1

    def test_nothing_to_send_is_nothing_done(self, provider: Provider, wire: Wire) -> None:
        assert send(provider) == []
        assert wire.seen == []

    def test_a_closed_port_is_transient(self, nowhere: Provider) -> None:
        outcomes = send(nowhere, *(plain(f"no{number}") for number in range(5)))
        offline = Feature.WIRE in self.lacks
        assert {outcome.kind for outcome in outcomes} == {OutcomeClass.ACCEPTED if offline else OutcomeClass.TRANSIENT}
        self.shows_nothing(*outcomes)

    def test_a_lost_answer_is_uncertain_and_not_asked_for_again(self, provider: Provider, wire: Wire) -> None:
        wire.behaviour = lambda request: None
        (outcome,) = send(provider, mail := plain())
        assert outcome.kind is OutcomeClass.UNCERTAIN
        assert self._requests_of(wire, mail) == 1, "one attempt is one request"

    def test_a_fault_of_the_server_says_nothing_of_the_mail(self, provider: Provider, wire: Wire) -> None:
        for status in self.faults:
            wire.behaviour = lambda request, status=status: Reply(status, b"<html>oops</html>")  # type: ignore[misc]
            assert {outcome.kind for outcome in send(provider, plain("a"), plain("b"))} <= _FAILED

    def test_after_a_failure_the_next_mail_goes(self, provider: Provider, wire: Wire) -> None:
        behave, wire.behaviour = wire.behaviour, lambda request: None
        send(provider, plain("lost"))
        wire.behaviour = behave
        assert [outcome.kind for outcome in send(provider, plain("next"))] == [OutcomeClass.ACCEPTED]

    def test_a_passed_deadline_starts_nothing(self, provider: Provider, wire: Wire) -> None:
        outcomes = provider.send([plain("a"), plain("b")], deadline=monotonic() - 1)
        assert [outcome.kind for outcome in outcomes] == [OutcomeClass.TRANSIENT] * 2
        assert wire.seen == []

    @pytest.mark.parametrize("kind", HOSTILE)
    def test_hostile_content_is_sent_or_refused_by_name(self, kind: str, provider: Provider, wire: Wire) -> None:
        (outcome,) = send(provider, mail := hostile(kind))
        self.shows_nothing(outcome)
        if outcome.kind is OutcomeClass.ACCEPTED:
            assert self._requests_of(wire, mail) == 1
        else:
            assert outcome.kind is OutcomeClass.REJECTED, f"{outcome.kind}: {outcome.reason}"
            assert _NAMED.fullmatch(outcome.reason or ""), f"{outcome.reason} names no feature"
            assert self._requests_of(wire, mail) == 0, "what cannot be said is not sent"

    def test_no_tag_or_metadata_fails_a_mail(self, provider: Provider, wire: Wire) -> None:
        for number, (tags, metadata) in enumerate(labels()):
            (outcome,) = send(provider, mail := plain(f"labels {number}", tags=tags, metadata=metadata))
            assert outcome.kind is OutcomeClass.ACCEPTED, f"{outcome.reason} for {tags} and {metadata}"
            assert self._requests_of(wire, mail) == 1
            fitted = provider.fitting(mail)
            assert provider.fitting(fitted) == fitted, "what fits once fits again"
            assert [tag for tag in tags if tag in fitted.tags] == list(fitted.tags), "kept in their order"
            assert fitted.metadata.items() <= mail.metadata.items()
            for text in (set(tags) - set(fitted.tags)) | (metadata.keys() - fitted.metadata.keys()):
                assert not self.holds(wire.seen[-1], text), "what is left out reaches no wire"

    def test_a_person_in_another_spelling_gets_one_copy(self, provider: Provider, wire: Wire) -> None:
        first, again = "eva@xn--bcher-kva.example", "Eva@bücher.example"
        copies = {"cc": (Address(RECIPIENT.upper()), Address(first)), "bcc": (Address(again), Address(first.upper()))}
        (outcome,) = send(provider, plain("spellings", **copies))
        if outcome.kind is not OutcomeClass.ACCEPTED:
            assert _NAMED.fullmatch(outcome.reason or ""), f"{outcome.reason} names no feature"
            return
        assert any(self.holds(request, first) for request in wire.seen)
        for spelling in (RECIPIENT.upper(), again, first.upper()):
            assert not any(self.holds(request, spelling) for request in wire.seen)

    def test_hostile_mails_sink_no_other(self, provider: Provider) -> None:
        alone = {kind: send(provider, hostile(kind))[0].kind for kind in HOSTILE}
        kinds = list(HOSTILE)
        for start in range(0, len(kinds), size := min(provider.batch_size, 5)):
            some = kinds[start : start + size]
            outcomes = send(provider, plain(f"before {start}"), *(hostile(kind) for kind in some), plain("after"))
            assert [outcome.kind for outcome in outcomes] == [
                OutcomeClass.ACCEPTED,
                *(alone[kind] for kind in some),
                OutcomeClass.ACCEPTED,
            ]

    def test_options_of_the_message_that_are_none_are_refused_or_not_looked_at(
        self, provider: Provider, wire: Wire
    ) -> None:
        name = self.provider_class.name
        for options in ({name: "no table"}, {name: ["no", "table"]}, {name: {"x": object()}}, {"another": {"x": 1}}):
            (outcome,) = send(provider, plain("options", options=options))
            if name in options:
                assert outcome.kind in (OutcomeClass.REJECTED, OutcomeClass.ACCEPTED)
            else:
                assert outcome.kind is OutcomeClass.ACCEPTED, "another provider's options are not ours"

    def test_the_delivery_id_reaches_the_wire(self, provider: Provider, wire: Wire) -> None:
        (outcome,) = send(provider, mail := plain())
        assert outcome.kind is OutcomeClass.ACCEPTED
        assert any(self.holds(request, str(mail.delivery_id)) for request in wire.seen)

    @pytest.mark.parametrize("kind", ["plain", *HOSTILE])
    def test_the_same_mail_twice_gives_the_same_bytes(self, kind: str, wire: Wire) -> None:
        seen: list[list[tuple[str, str, bytes, dict[str, str]]]] = []
        for _ in range(2):
            provider = self.build(self.at(wire.port))
            wire.seen.clear()
            send(provider, plain() if kind == "plain" else hostile(kind))
            provider.close()
            seen.append([_lasting(request) for request in wire.seen])
        assert seen[0] == seen[1]

    def test_threads_get_their_own_outcomes(self, provider: Provider, wire: Wire) -> None:
        groups = [[plain(f"{thread} {number}") for number in range(3)] for thread in range(6)]
        with ThreadPoolExecutor(6) as threads:
            outcomes = list(threads.map(lambda group: send(provider, *group), groups))
        assert {outcome.kind for group in outcomes for outcome in group} == {OutcomeClass.ACCEPTED}
        assert all(self._requests_of(wire, mail) == 1 for group in groups for mail in group)

    def test_a_closed_account_opens_again(self, provider: Provider) -> None:
        provider.close()
        provider.close()
        outcomes: list[Outcome] = send(provider, plain())
        assert outcomes[0].kind is OutcomeClass.ACCEPTED

    def _requests_of(self, wire: Wire, mail: Outgoing) -> int:
        return sum(self.holds(request, str(mail.delivery_id)) for request in list(wire.seen))


def _lasting(request: Seen) -> tuple[str, str, bytes, dict[str, str]]:
    headers = {name: value for name, value in request.headers.items() if name not in _OF_THE_MOMENT}
    return request.method, request.path, request.body, {**headers, "host": ""}
