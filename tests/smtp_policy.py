"""An SMTP server that takes or refuses by policy, for as many connections as come."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Answers = Callable[[str], str | None]


def takes_all(_: str) -> str | None:
    """Return no refusal."""
    return None


@dataclass(slots=True)
class Policy:
    """What a server refuses: each is given the argument and returns a reply, or None to go on.

    Attributes:
        greets: whether it says anything; without that it hangs up at once.
        taken: recipients of the mails that were taken.
        asked: every recipient that was named, in order.
    """

    mail: Answers = takes_all
    rcpt: Answers = takes_all
    data: Answers = takes_all
    dot: Answers = takes_all
    greets: bool = True
    taken: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def policy_server(policy: Policy) -> Iterator[int]:
    """Serve by a policy until the end; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer = listener.accept()[0]
                    threading.Thread(target=_serve, args=(peer, policy), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


def _serve(sock: socket.socket, policy: Policy) -> None:
    with sock, sock.makefile("rwb") as file, contextlib.suppress(OSError):

        def say(line: str) -> None:
            file.write(f"{line}\r\n".encode())
            file.flush()

        if not policy.greets:
            return
        say("220 policy")
        recipients: list[str] = []
        for raw in iter(file.readline, b""):
            line = raw.decode().strip()
            word, argument = line[:4].upper(), line.partition("<")[2].partition(">")[0]
            if word == "EHLO":
                say("250 policy")
            elif word == "MAIL":
                recipients = []
                say(policy.mail(argument) or "250 ok")
            elif word == "RCPT":
                policy.asked.append(argument)
                refused = policy.rcpt(argument)
                if refused is None:
                    recipients.append(argument)
                say(refused or "250 ok")
            elif word == "DATA":
                refused = policy.data(recipients[0] if recipients else "")
                say(refused or "354 go on")
                if refused is None:
                    for _ in iter(file.readline, b".\r\n"):
                        pass
                    refused = policy.dot(recipients[0])
                    if refused is None:
                        policy.taken += recipients
                    say(refused or "250 taken")
            else:
                say("221 bye" if word == "QUIT" else "250 ok")
