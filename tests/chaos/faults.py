"""Loaded into a worker under test (`celery worker -I tests.chaos.faults`): dies with SIGKILL at a chosen seam, once.

The environment says where (`CHAOS_SEAM`), at which occurrence (`CHAOS_AT`), what dies (`CHAOS_VICTIM`: the whole
`worker`, or one `child` of a prefork pool), and which file to leave behind (`CHAOS_MARK`): it is made just before the
kill and keeps a worker that goes on from dying again.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

from mailglass.ledger import leases
from mailglass.providers.smtp import SMTPProvider

SEAM = os.environ.get("CHAOS_SEAM", "")
AT = int(os.environ.get("CHAOS_AT", "1"))
_passed = itertools.count(1)


def _die() -> None:
    if next(_passed) < AT:
        return
    try:
        os.close(os.open(os.environ["CHAOS_MARK"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    if os.environ["CHAOS_VICTIM"] == "child":
        os.kill(os.getpid(), signal.SIGKILL)
    # a worker under test leads a process group of its own
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _wrap(owner: Any, name: str, *, before: bool = False) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    def seam(*args: Any, **kwargs: Any) -> Any:
        if before:
            _die()
        answer = original(*args, **kwargs)
        # an empty claim or record is no seam: nothing has been touched
        if not before and answer:
            _die()
        return answer

    setattr(owner, name, seam)


match SEAM:
    case "before_claim":
        _wrap(leases, "claim", before=True)
    case "after_claim":
        _wrap(leases, "claim")
    case "after_mark":
        _wrap(leases, "mark")
    case "after_answer":
        _wrap(SMTPProvider, "send")
    case "after_record":
        _wrap(leases, "record")
