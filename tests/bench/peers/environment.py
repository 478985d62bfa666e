"""What the peers need and mailglass does not: a virtual environment of their own, and Postfix's smtp-sink."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.bench.machine import ROOT
from tests.bench.peers.receivers import SINK
from tests.run import Need, apt_install, provide

REQUIREMENTS = ROOT / "requirements"
PEERS, QUEUES = "peers", "queues"
# oban wants 3.12
NEWER = ("3.14", "3.13", "3.12")
POSTFIX = Need("smtp-sink", (SINK,), "postfix")


def make_environment(name: str = PEERS, python: str | Path = sys.executable) -> None:
    """Install pinned peers, each file checked against its hash, unless they are there already.

    Args:
        name: of the requirements: `peers`, or `queues` for the job queues.
        python: the interpreter to install them for.

    Raises:
        subprocess.CalledProcessError: they cannot be installed; pip has said why.
    """
    requirements, place = REQUIREMENTS / f"{name}.txt", _place(name)
    wanted = hashlib.sha256(requirements.read_bytes() + str(python).encode()).hexdigest()
    stamp = place / "installed"
    if stamp.exists() and stamp.read_text(encoding="ascii") == wanted:
        return
    print(f"installing the peers into {place.name} ...", file=sys.stderr, flush=True)
    subprocess.run([python, "-m", "venv", "--clear", place], check=True)
    options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--requirement", str(requirements)]
    subprocess.run([str(python_of(False, name)), "-m", "pip", "install", *options], check=True)
    stamp.write_text(wanted, encoding="ascii")


def newer_python() -> str | None:
    """Return a Python of 3.12 or newer, or None if there is none on PATH or in pyenv's place."""
    for version in NEWER:
        in_pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
        for candidate in (shutil.which(f"python{version}"), *map(str, reversed(in_pyenv))):
            if candidate and not subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode:
                return candidate
    return None


def has_sink() -> bool:
    """Whether smtp-sink is there, installed now where that is possible."""
    # Debian keeps it where only root looks
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    root = shutil.which("apt-get") is not None and os.geteuid() == 0
    lines, _ = provide([POSTFIX], root=root, ci=False, install=apt_install)
    for line in lines:
        print(line.replace("its tests are skipped", "nothing is measured by SMTP"), file=sys.stderr)
    return not lines


def python_of(ours: bool, name: str = PEERS) -> Path:
    """Return the interpreter that runs mailglass, or that of the peers."""
    return Path(sys.executable) if ours else _place(name) / "bin" / "python"


def _place(name: str) -> Path:
    return ROOT / f".venv-{name}"
