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

REQUIREMENTS = ROOT / "requirements" / "peers.txt"
PLACE = ROOT / ".venv-peers"
PYTHON = PLACE / "bin" / "python"
POSTFIX = Need("smtp-sink", (SINK,), "postfix")


def make_environment() -> None:
    """Install the pinned peers, each file checked against its hash, unless they are there already.

    Raises:
        subprocess.CalledProcessError: they cannot be installed; pip has said why.
    """
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    stamp = PLACE / "installed"
    if stamp.exists() and stamp.read_text(encoding="ascii") == wanted:
        return
    print(f"installing the peers into {PLACE.name} ...", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", PLACE], check=True)
    options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--requirement", str(REQUIREMENTS)]
    subprocess.run([str(PYTHON), "-m", "pip", "install", *options], check=True)
    stamp.write_text(wanted, encoding="ascii")


def has_sink() -> bool:
    """Whether smtp-sink is there, installed now where that is possible."""
    # Debian keeps it where only root looks
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    root = shutil.which("apt-get") is not None and os.geteuid() == 0
    lines, _ = provide([POSTFIX], root=root, ci=False, install=apt_install)
    for line in lines:
        print(line.replace("its tests are skipped", "nothing is measured by SMTP"), file=sys.stderr)
    return not lines


def python_of(ours: bool) -> Path:
    """The interpreter that runs mailglass, or that of the peers."""
    return Path(sys.executable) if ours else PYTHON
