"""One call of `send`: its mails, shared by the sessions that send them."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from mailglass import telemetry
from mailglass.clock import monotonic
from mailglass.mail.outcomes import EXPIRED, Outcome, OutcomeClass
from mailglass.mail.outgoing import Outgoing
from mailglass.providers.smtp.opening import SessionFailed
from mailglass.providers.smtp.pool import SessionPool
from mailglass.providers.smtp.prepared_mail import PreparedMail
from mailglass.providers.smtp.session import Session, StaleSession

# A second connection is worth its opening where one alone would keep us waiting; a server that answers at once keeps
# a process busy by itself, and threads would only take turns.
_LOOK_AFTER: Final = 0.02
_WORTH: Final = 0.05
_LEAST_SHARE: Final = 4
_GLANCE: Final = 0.1

_NOT_STARTED: Final = Outcome(OutcomeClass.TRANSIENT, reason="deadline")
_UNBUILDABLE: Final = Outcome(OutcomeClass.REJECTED, reason="message_invalid")
_UNPACKED: Final = Outcome(OutcomeClass.TRANSIENT, reason="encode_failed")


class _Unpackable(Exception):
    """No form in which SMTP can send a mail.

    Attributes:
        outcome: of its attempt.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class _Job:
    """A mail that somebody holds, and its place in the batch."""

    index: int
    prepared: PreparedMail


class Batch:
    """The mails of one call. The caller sends them; where the server makes it wait, free connections help.

    Args:
        mails: to be attempted once each.
        deadline: on `mailglass.clock.monotonic()`.
        pool: where sessions come from; the caller holds a slot of it.
        pack: prepares a mail; raises ValueError where it cannot be sent.
        account: whose mails they are, for the log.
    """

    def __init__(
        self,
        mails: Sequence[Outgoing],
        deadline: float,
        pool: SessionPool,
        pack: Callable[[Outgoing], PreparedMail],
        account: str = "",
    ) -> None:
        self.deadline = deadline
        self.pool = pool
        self._mails = mails
        self._pack = pack
        self._account = account
        self._outcomes: list[Outcome | None] = [None] * len(mails)
        self._left = deque(range(len(mails)))
        self._held = 0
        self._helpers = 0
        self._changed = threading.Condition()
        self._over = False
        self._no_session: Outcome | None = None
        self._failure: BaseException | None = None
        self._first_settled = 0.0
        self._settled = 0
        self._asked_for_help = False

    def send(self) -> list[Outcome]:
        """Return the outcome of each mail, in their order.

        Where a fault of ours or a time limit ends the batch, what servers have answered still counts; a mail that
        somebody held may have been sent.
        """
        broken: Outcome | None = None
        try:
            self._carry_all()
        except Exception as error:
            self._note("mailglass.dispatch.provider_failed", error)
            broken = _unknown(error)
        finally:
            self.stop()
        with self._changed:
            rest = self._no_session or _NOT_STARTED
            unheld = set(self._left)
            return [
                outcome or (rest if broken is None or index in unheld else broken)
                for index, outcome in enumerate(self._outcomes)
            ]

    def take(self) -> _Job | None:
        """Return the next mail, to be settled or given back; None when there is none to start any more."""
        while True:
            with self._changed:
                if self._over or not self._left or monotonic() >= self.deadline:
                    return None
                index = self._left.popleft()
                self._held += 1
            if self._mails[index].expired:
                self._let_go(index, EXPIRED)
                continue
            try:
                return _Job(index, self._packed(self._mails[index]))
            except _Unpackable as failure:
                self._let_go(index, failure.outcome)
            except BaseException:
                # a time limit that happened to strike here: the batch ends with it
                self._let_go(index, _UNPACKED)
                raise

    def _packed(self, mail: Outgoing) -> PreparedMail:
        """Pack a mail. A second try tells an error that is the mail's own from a time limit, which strikes once.

        Raises:
            _Unpackable: there is no way to pack it.
        """
        try:
            return self._pack(mail)
        except ValueError:
            raise _Unpackable(_UNBUILDABLE) from None
        except Exception as first:
            try:
                self._pack(mail)
            except Exception as error:
                self._note("mailglass.provider.encode_failed", error)
                raise _Unpackable(_UNPACKED) from None
            raise first

    def settle(self, job: _Job, outcome: Outcome) -> None:
        """Say what became of a mail."""
        self._let_go(job.index, outcome)

    def give_back(self, job: _Job) -> None:
        """Leave a mail, of which nothing was sent, to others."""
        self._let_go(job.index, None)

    def stop(self, failure: BaseException | None = None) -> None:
        """Start no further mail; the failure, if any, is the caller's to hear of."""
        with self._changed:
            self._over = True
            self._failure = self._failure or failure
            self._changed.notify_all()

    def ask_for_help(self) -> None:
        """Share what is left with free connections, once, where it would take this one long."""
        now = monotonic()
        if not self._settled:
            self._first_settled = now
        self._settled += 1
        left, spent = len(self._left), now - self._first_settled
        if self._asked_for_help or spent < _LOOK_AFTER or left < _LEAST_SHARE:
            return
        if min(spent / (self._settled - 1) * left, self.deadline - now) < _WORTH:
            return
        self._asked_for_help = True
        for _ in range(left // _LEAST_SHARE):
            self._count_helpers(1)
            if not self.pool.lend(self._help):
                self._count_helpers(-1)
                return

    def _note(self, event: str, error: Exception) -> None:
        telemetry.emit(
            event, level=logging.ERROR, account=self._account, provider="smtp", error_type=type(error).__name__
        )

    def _carry_all(self) -> None:
        while True:
            try:
                _Sender(self).run()
            except SessionFailed as failure:
                # the batch's other mails would only wait before the same door
                self._no_session = failure.outcome
            with self._changed:
                while not self._nobody_carries():
                    self._changed.wait(min(max(self.deadline - monotonic(), _GLANCE), threading.TIMEOUT_MAX))
                if self._failure is not None:
                    raise self._failure
                if not self._left or self._no_session is not None or monotonic() >= self.deadline:
                    self._over = True  # here, or a helper could take one more while outcomes are read
                    return

    def _nobody_carries(self) -> bool:
        """Return whether to wait no longer. A helper without a mail counts only if the caller cannot go on itself."""
        if self._held:
            return False
        if self._failure is not None:
            return True
        return not (self._left and self._helpers and self._no_session) or monotonic() >= self.deadline

    def _help(self) -> None:
        try:
            _Sender(self, helping=True).run()
        except SessionFailed:
            return  # whoever has a session goes on alone
        except BaseException as error:
            self.stop(error)
        finally:
            self._count_helpers(-1)

    def _count_helpers(self, change: int) -> None:
        with self._changed:
            self._helpers += change
            self._changed.notify_all()

    def _let_go(self, index: int, outcome: Outcome | None) -> None:
        with self._changed:
            self._held -= 1
            if outcome is None:
                self._left.appendleft(index)
            else:
                self._outcomes[index] = outcome
            if not self._held:
                self._changed.notify_all()


class _Sender:
    """Sender of a batch's mails, over one session at a time."""

    def __init__(self, batch: Batch, *, helping: bool = False) -> None:
        self._batch = batch
        self._helping = helping
        self._session: Session | None = None

    def run(self) -> None:
        """Send mails while there are some and time is left.

        Raises:
            SessionFailed: no session could be opened; what was held is given back.
            BaseException: whatever else ended it; the mail in its hands is settled as uncertain.
        """
        batch = self._batch
        try:
            if self._helping:
                self._session = batch.pool.take()  # before it takes a mail from those who have one
            job = batch.take()
            while job is not None:
                try:
                    following = None if self._helping and batch.pool.wanted else batch.take()
                except BaseException:
                    batch.give_back(job)
                    raise
                try:
                    outcome = self._attempt(job, following)
                except SessionFailed:
                    if following is not None:
                        batch.give_back(following)
                    batch.give_back(job)
                    raise
                except BaseException as error:
                    if following is not None:
                        batch.give_back(following)
                    batch.settle(job, _unknown(error))
                    raise
                batch.settle(job, outcome)
                if not self._helping:
                    batch.ask_for_help()
                job = following
        finally:
            self._end()

    def _attempt(self, job: _Job, following: _Job | None, *, fresh: bool = False) -> Outcome:
        session = self._ready_session(job.prepared, fresh)
        if monotonic() >= self._batch.deadline:
            return _NOT_STARTED
        if not session.expects(job.prepared) and (objection := session.objection(job.prepared)):
            return objection
        try:
            return session.transmit(job.prepared, None if following is None else following.prepared)
        except StaleSession:
            # nothing was sent, and a fresh session is never stale: this happens once
            return self._attempt(job, following, fresh=True)

    def _ready_session(self, prepared: PreparedMail, fresh: bool) -> Session:
        session = self._session
        if session is None or not (session.usable or session.expects(prepared)):
            self._end()
            session = self._session = self._batch.pool.connect() if fresh else self._batch.pool.take()
        return session

    def _end(self) -> None:
        """Give the session back."""
        if self._session is not None:
            self._batch.pool.keep(self._session)
            self._session = None


def _unknown(error: BaseException) -> Outcome:
    """Of a mail that was in somebody's hands when this happened."""
    return Outcome(OutcomeClass.UNCERTAIN, reason=f"provider_error:{type(error).__name__}")
