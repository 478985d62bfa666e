"""A bounded HTTP client: posts prepared requests over a few kept connections, as fast as they are answered.

Run by `python -m tests.bench.hammer FILE PORT CONNECTIONS SECONDS CORE`; prints what happened as JSON. CORE may be
empty. The file is a pickled list of whole requests, each posted once; SECONDS bounds it if the server does not keep up.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path


def hammer(requests: Sequence[bytes], port: int, connections: int, seconds: float) -> dict[str, object]:
    """Post every request once.

    Returns:
        `seconds` it took, `statuses` by how often each was answered.
    """
    waiting: Iterator[bytes] = iter(requests)
    lines = {}
    poll = select.epoll()
    for _ in range(connections):
        line = socket.create_connection(("127.0.0.1", port))
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines[line.fileno()] = line
        poll.register(line, select.EPOLLIN)
    statuses: Counter[str] = Counter()
    partial: dict[int, bytes] = {}
    began = time.perf_counter()
    busy = 0
    for line in lines.values():
        if request := next(waiting, None):
            line.sendall(request)
            busy += 1
    while busy and time.perf_counter() - began < seconds:
        for number, _ in poll.poll(1.0):
            line = lines[number]
            answer = partial.pop(number, b"") + line.recv(65536)
            if not answer.endswith(b"\r\n\r\n"):  # answers to webhooks have no body
                if not answer:
                    raise RuntimeError("the server hung up")
                partial[number] = answer
                continue
            statuses[answer[9:12].decode("ascii")] += 1
            if request := next(waiting, None):
                line.sendall(request)
            else:
                busy -= 1
    taken = time.perf_counter() - began
    for line in lines.values():
        line.close()
    return {"seconds": taken, "statuses": dict(statuses)}


if __name__ == "__main__":
    file, port, connections, seconds, core = sys.argv[1:]
    if core:
        os.sched_setaffinity(0, {int(core)})
    prepared = pickle.loads(Path(file).read_bytes())
    print(json.dumps(hammer(prepared, int(port), int(connections), float(seconds))))
