"""`mailglass probe`: liveness and readiness of a process on this machine, for a few milliseconds of processor time."""

from __future__ import annotations

import socket

import click

from mailglass import heartbeat
from mailglass.cli.output import JSON, format_option, print_json

# seconds that a web process has to answer
_TIMEOUT = 5.0


@click.command()
@click.argument("kind", type=click.Choice(["worker", "beat", "web"]))
@click.option(
    "--live", "wanted", flag_value="live", default="live", help="Not hung. If it is, restart it. The default."
)
@click.option("--ready", "wanted", flag_value="ready", help="Reaches broker and database too. If not, send it no work.")
@click.option("--name", default="", help="The node name (-n) of one of several workers here.")
@click.option("--port", default=8025, show_default=True, type=click.IntRange(1, 65535), help="Port of the web process.")
@format_option
def probe(kind: str, wanted: str, name: str, port: int, output_format: str) -> int:
    """Tell whether a worker, beat or web process is alive or ready.

    Exits with 0 if it is, else with 1. It reads the heartbeat that the process writes every two seconds, and asks
    neither broker nor database. A process that is busy is alive: only one that hangs for 20 seconds is not.
    """
    problem = _web(port, wanted) if kind == "web" else _heard(kind, name, wanted)
    if output_format == JSON:
        print_json(kind=kind, probe=wanted, ok=problem is None, problem=problem)
    else:
        click.echo(f"{kind}: {problem or wanted}")
    return 0 if problem is None else 1


def _heard(kind: str, name: str, wanted: str) -> str | None:
    """Return why a process is not alive or ready, or None."""
    try:
        reading = heartbeat.read(kind, name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--name") from None
    if reading is None:
        return f"no heartbeat at {heartbeat.path_of(kind, name)}: it has not started, or it has ended"
    parts = heartbeat.LIVE[kind] if wanted == "live" else heartbeat.READY[kind]
    silent = reading.silent(parts)
    if not silent:
        return None
    return ", ".join(
        f"{part} never heard of" if age is None else f"{part} silent for {age:.0f} s" for part, age in silent.items()
    )


def _web(port: int, wanted: str) -> str | None:
    path = "/healthz" if wanted == "live" else "/readyz"
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("ascii")
    try:
        with socket.create_connection(("127.0.0.1", port), _TIMEOUT) as connection:
            connection.sendall(request)
            answer = connection.recv(256)
    except OSError as error:
        return f"port {port} does not answer: {error.strerror or type(error).__name__}"
    status = answer.split(b" ", 2)[1:2]
    return None if status == [b"200"] else f"{path} answers {status[0].decode('ascii', 'replace') if status else '?'}"
