"""One attempt: mark, call the provider, record, and learn from the answers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from mailglass import clock, telemetry
from mailglass.engine.account_selector import AccountSelector
from mailglass.engine.alerts import alert_uncertain
from mailglass.engine.assignment import AccountBatch
from mailglass.engine.batch_report import AttemptResult
from mailglass.engine.health import BREAKING, Sign, Suspicions, Unanswered, judge, sign_of
from mailglass.engine.provider_call import Change, call, clean_text
from mailglass.engine.rate_feedback import RateFeedback
from mailglass.engine.recorder import Recorder
from mailglass.engine.verdicts import decide, window
from mailglass.errors import LedgerUnavailableError, failure
from mailglass.ledger import breakers, leases, secret_uses
from mailglass.ledger.database import Database
from mailglass.ledger.events import EngineEvent
from mailglass.ledger.leases import Claimed, RefusedCopy, Verdict
from mailglass.ledger.lifecycle import Status
from mailglass.ledger.secret_uses import SecretNote
from mailglass.ledger.suppressions import Suppression, refused_again
from mailglass.mail.addresses import Address
from mailglass.mail.outcomes import Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.mail.refusal import Refusal
from mailglass.mail.streams import Stream
from mailglass.providers.base import Provider
from mailglass.providers.credentials import credentials_of
from mailglass.providers.labels import left_out
from mailglass.providers.registry import Accounts
from mailglass.refusals.consequences import FIRST, bounce_class, suppression
from mailglass.refusals.counting import count_refusals
from mailglass.routing import Lane
from mailglass.settings import Settings

_OF_THE_ACCOUNT: Final = (OutcomeClass.MISCONFIGURED, OutcomeClass.QUOTA)
_Answered = tuple[Outgoing, Outcome]
_LONGEST_SUPPRESSION: Final = 366 * 86400.0


class Attempter:
    """Attempts of pieces of batches. Safe to use from several threads.

    Args:
        settings: the streams' policies.
        ledger: where marks and outcomes go.
        accounts: the opened providers, some with two credentials.
        selector: knows the other accounts of a route, and is told when a breaker changes.
        rate_feedback: adjusts rates by the answers.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Database,
        accounts: Accounts,
        selector: AccountSelector,
        rate_feedback: RateFeedback,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._accounts = accounts
        self._selector = selector
        self._rate_feedback = rate_feedback
        self._unanswered = Unanswered()
        self._suspicions = Suspicions()

    def doubtful(self, account: str) -> bool:
        """Return whether the account's last call had no answer, so that the next one should risk a single mail."""
        return self._unanswered.doubtful(account)

    def attempt(
        self,
        lane: Lane,
        batch: AccountBatch,
        mails: Sequence[Outgoing],
        claimed: Mapping[UUID, Claimed],
        recorder: Recorder,
    ) -> AttemptResult:
        """Attempt these mails once.

        Args:
            lane: where they wait.
            batch: deliveries of the account that they go through.
            mails: a piece of these deliveries, as mails.
            claimed: their deliveries by id, and perhaps others.
            recorder: writes down what becomes of them.

        Returns:
            The number of mails attempted, what was learnt, and whether the account can take more now.
        """
        provider, lease = batch.provider, recorder.lease
        if left_out := _left_out(provider, mails):
            # before the mark: if it cannot be written, nothing was attempted
            leases.note(self._ledger, lane.tenant, batch.account, EngineEvent.LEFT_OUT, left_out)
        attempts = self._mark(batch, mails, recorder)
        if len(attempts) < len(mails):
            mails = [mail for mail in mails if mail.delivery_id in attempts]
        if not mails:
            self._selector.not_probed(batch)
            return AttemptResult(0, usable=True)
        recorder.begin(attempts)
        started = clock.monotonic()
        with batch.call or nullcontext():
            outcomes, change = call(self._accounts, provider, mails, lease.send_until)
        duration = round((clock.monotonic() - started) * 1000)
        # first of all: what the provider answered is known only here
        self._record(lane, batch, mails, outcomes, claimed, attempts, duration, recorder)
        if change is not None:
            self._note_credentials(change)
        usable = self._judge_account(batch, mails, outcomes, duration / 1000)
        # slow down where asked
        self._rate_feedback.apply(batch, mails, outcomes)
        self._selector.destinations.learn(batch.account, mails, outcomes)
        learnt = tuple(outcome.provider_message_id for outcome in outcomes if outcome.provider_message_id)
        return AttemptResult(len(mails), usable, learnt)

    def _mark(self, batch: AccountBatch, mails: Sequence[Outgoing], recorder: Recorder) -> dict[UUID, int]:
        """Mark what is still ours and has not expired; return the attempt's number by id."""
        expired: set[UUID] = set()
        ids = [mail.delivery_id for mail in mails]
        token = recorder.lease.token
        attempts = leases.mark(self._ledger, token, ids, batch.account, batch.provider.name, expired)
        if len(attempts) < len(ids):
            recorder.expired(expired)
            self._rate_feedback.not_sent(batch, [key for key in ids if key not in attempts])
        return attempts

    def _record(
        self,
        lane: Lane,
        batch: AccountBatch,
        mails: Sequence[Outgoing],
        outcomes: Sequence[Outcome],
        claimed: Mapping[UUID, Claimed],
        attempts: Mapping[UUID, int],
        duration: int,
        recorder: Recorder,
    ) -> None:
        policy = self._settings.streams[Stream(lane.stream)]
        # by the ledger's clock, of which the claim has told: this process's may be wrong by hours
        since_claim = clock.monotonic() - recorder.lease.started
        # of most mails there is nothing to say but that they were accepted
        eventful = [pair for pair in zip(mails, outcomes, strict=True) if not _is_plain(pair[1])]
        fails_over = any(outcome.kind in _OF_THE_ACCOUNT for _, outcome in eventful)
        elsewhere = fails_over and self._elsewhere(batch)
        idempotency_window, accounts = window(batch.provider), len(batch.route.accounts)
        deliveries = [claimed[mail.delivery_id] for mail in mails]
        verdicts = [
            decide(
                delivery.id,
                outcome,
                attempt=attempts[delivery.id],
                age=delivery.age + since_claim,
                policy=policy,
                duration_ms=duration,
                elsewhere=elsewhere,
                idempotency_window=idempotency_window,
                in_doubt=delivery.in_doubt,
                asked_again=delivery.in_doubt and delivery.ask_again,
                deferrals=delivery.deferrals,
                lifetime=delivery.lifetime,
                accounts=accounts,
            )
            for delivery, outcome in zip(deliveries, outcomes, strict=True)
        ]
        if eventful:
            verdicts = [
                _awaiting(verdict, outcome, batch.account) for verdict, outcome in zip(verdicts, outcomes, strict=True)
            ]
        refusals = list(_about_whom(eventful))
        refused = _refused(lane, batch.account, eventful, refusals)
        refused += self._refused_again(lane, batch.account, refusals)
        recorder.record(verdicts, refused, _refused_copies(eventful))
        alert_uncertain(lane, batch.account, verdicts)
        if refusals:
            count_refusals(batch.account, [refusal.code for _, refusal in refusals])

    def _note_credentials(self, change: Change) -> None:
        """Note which credentials the provider takes, for `mailglass secrets check`."""
        account = change.accepted.account
        judged = ((change.accepted, True), (change.refused, False))
        with suppress(LedgerUnavailableError):
            known = secret_uses.known(self._ledger, [account])
            if change.refused is None and not any(use.refused for use in known.values()):
                return
            notes = [
                SecretNote(
                    account,
                    secret_uses.fingerprint(self._ledger, account, secret.reveal()),
                    used=accepted,
                    refused=not accepted,
                )
                for provider, accepted in judged
                if provider is not None and (secret := credentials_of(provider)) is not None
            ]
            secret_uses.note(self._ledger, notes)

    def _refused_again(
        self, lane: Lane, account: str, refusals: Sequence[tuple[Address, Refusal]]
    ) -> list[Suppression]:
        """Return entries for those who were refused as perhaps gone, now and a day or more before.

        Noting a refusal twice changes nothing, so it is done before the verdicts that it belongs to are written.
        """
        doubts = {
            address.key: rule.days
            for address, refusal in refusals
            if (rule := suppression(refusal)) is not None and rule.at > 1
        }
        if not doubts:
            return []
        now = clock.now()
        try:
            again = refused_again(self._ledger, [(lane.tenant, key, now) for key in doubts])
        except LedgerUnavailableError:
            return []
        return [
            _entry(lane, account, key, None if doubts[key] is None else now + timedelta(days=doubts[key] or 0))
            for _, key in sorted(again)
        ]

    def _elsewhere(self, batch: AccountBatch) -> bool:
        try:
            return self._selector.elsewhere(batch.route, batch.account)
        except LedgerUnavailableError:
            # queued again is right in both cases: whoever assigns it next finds out
            return len(batch.route.accounts) > 1

    def _judge_account(
        self, batch: AccountBatch, mails: Sequence[Outgoing], outcomes: Sequence[Outcome], seconds: float
    ) -> bool:
        """Open or close the account's breaker by what its provider said; return whether it can take more now."""
        account = batch.account
        signs = [sign_of(outcome) for outcome in outcomes]
        judgement = judge(signs)
        sign, index = judgement.sign, judgement.index
        suspected = self._suspicions.add(account, mails, outcomes, signs)
        if suspected is not None and sign not in BREAKING:
            index = suspected
            sign = Sign.USED_UP if outcomes[index].kind is OutcomeClass.QUOTA else Sign.REFUSED
        if sign is Sign.NO_ANSWER:
            given_up = self._unanswered.add(account, seconds)
            if not (batch.probing or given_up):
                return True
        elif sign not in BREAKING:
            return self._answered(batch, sign)
        self._unanswered.forget(account)
        self._trip(account, sign, mails[index].delivery_id, outcomes[index])
        return False

    def _answered(self, batch: AccountBatch, sign: Sign) -> bool:
        """Close a half-open breaker if the account works, else let another mail try it; return whether it answered."""
        if sign is not Sign.NOTHING:
            self._unanswered.forget(batch.account)
        if batch.probing and sign is Sign.WORKS:
            if breakers.reset(self._ledger, batch.account):
                breakers.wake(self._ledger, batch.account)
            self._selector.forget()
            telemetry.emit("mailglass.breaker.closed", account=batch.account)
        else:
            self._selector.not_probed(batch)
        return sign is not Sign.NOTHING

    def _trip(self, account: str, sign: Sign, delivery: UUID, outcome: Outcome) -> None:
        reset = outcome.retry_after if sign in BREAKING else None
        seconds = breakers.trip(
            self._ledger, account, sign.value, reset, delivery=delivery, error=outcome.reason or outcome.kind.value
        )
        self._selector.forget()
        telemetry.emit(
            "mailglass.breaker.opened",
            level=logging.ERROR,
            account=account,
            reason=sign.value,
            duration_ms=round(seconds * 1000),
        )


def _awaiting(verdict: Verdict, outcome: Outcome, account: str) -> Verdict:
    """Let a mail wait for its account that was refused for the account's sake."""
    if verdict.status is not Status.QUEUED or sign_of(outcome) not in (*BREAKING, Sign.SUSPECT):
        return verdict
    return verdict._replace(awaits_account=account)


def _left_out(provider: Provider, mails: Sequence[Outgoing]) -> list[tuple[UUID, datetime, str]]:
    """Return what of tags and metadata the provider's requests will not carry."""
    found = []
    for mail in mails:
        if mail.tags or mail.metadata:
            try:
                if reason := left_out(mail, provider.fitting(mail)):
                    found.append((mail.delivery_id, mail.created_at, reason))
            except BaseException as error:
                # what else a provider cannot say of a mail, its attempt finds out
                failure(error)
    return found


def _is_plain(outcome: Outcome) -> bool:
    """Return whether a mail was accepted, and nothing else was said of it."""
    accepted = outcome.kind is OutcomeClass.ACCEPTED and not outcome.hard_bounce
    return accepted and outcome.refusal is None and not outcome.copies


def _about_whom(answered: Sequence[_Answered]) -> Iterator[tuple[Address, Refusal]]:
    """Yield every refusal with the address it is about: the recipient's, or a copy's."""
    for mail, outcome in answered:
        if outcome.refusal is not None:
            yield mail.recipient, outcome.refusal
        if outcome.copies:
            copies = (*mail.cc, *mail.bcc)
            for copy in outcome.copies:
                if 0 <= copy.index < len(copies):
                    yield copies[copy.index], copy.refusal


def _refused_copies(answered: Sequence[_Answered]) -> list[RefusedCopy]:
    return [
        RefusedCopy(
            mail.delivery_id,
            copy.status,
            clean_text(copy.enhanced_status),
            bounce_class(copy.refusal).value,
            copy.refusal.code,
        )
        for mail, outcome in answered
        for copy in outcome.copies
    ]


def _entry(lane: Lane, account: str, key: str, expires_at: datetime | None) -> Suppression:
    return Suppression(
        tenant=lane.tenant, value=key, reason="hard_bounce", source="attempt", account=account, expires_at=expires_at
    )


def _refused(
    lane: Lane,
    account: str,
    answered: Sequence[_Answered],
    refusals: Sequence[tuple[Address, Refusal]],
) -> list[Suppression]:
    """Return recipients and copies that are refused for good, as entries of the suppression list."""
    gone = [_entry(lane, account, address.key, None) for address, refusal in refusals if suppression(refusal) is FIRST]
    return gone + [
        Suppression(
            tenant=lane.tenant,
            value=mail.recipient.key,
            reason="hard_bounce" if outcome.hard_bounce else "provider",
            source="attempt",
            account=account,
            expires_at=_expiry(outcome),
        )
        for mail, outcome in answered
        if outcome.kind is OutcomeClass.SUPPRESSED or (outcome.hard_bounce and outcome.refusal is None)
    ]


def _expiry(outcome: Outcome) -> datetime | None:
    wait = outcome.suppressed_for
    if outcome.hard_bounce or wait is None or not 0 < wait <= _LONGEST_SUPPRESSION:
        return None
    return clock.now() + timedelta(seconds=wait)
