"""Run tests on other versions than those that are pinned: `python tests/versions.py oldest|newest|prepare`.

`oldest`: what an application does that sends mail, on the oldest of every dependency that mailglass asks for.
`newest`: the unit tests, and all of Django's, on the newest Python that is found, which brings the newest Django. In CI
there must be one. Each builds a virtual environment of its own once, as `prepare` does for both. Further arguments are
pytest's.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRODUCER = ("tests/unit/test_importing.py", "tests/integration/test_outbound.py", "tests/integration/test_batches.py")
NEWEST = (
    "tests/unit",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "integration").glob("test_django*.py")),
)
_MINOR = re.compile(r"python3\.(\d+)\Z")


def newest_python(environ: dict[str, str]) -> str | None:
    """Return the newest Python there is beside the one that runs this, or None.

    It is looked for as NEWEST_PYTHON, on PATH, and among pyenv's. One that does not start is passed over.
    """
    if given := environ.get("NEWEST_PYTHON"):
        return given
    places = [Path(entry) for entry in environ.get("PATH", "").split(os.pathsep) if entry]
    places += sorted((Path(environ.get("HOME", "/")) / ".pyenv" / "versions").glob("*/bin"))
    found = {
        (int(match[1]), path) for place in places for path in _pythons(place) if (match := _MINOR.search(path.name))
    }
    for minor, path in sorted(found, reverse=True):
        if minor > sys.version_info.minor and _is_release(path):
            return str(path)
    return None


def _pythons(place: Path) -> list[Path]:
    try:
        return [path for path in place.iterdir() if _MINOR.search(path.name)]
    except OSError:
        return []


def _is_release(python: Path) -> bool:
    program = "import sys, venv, ensurepip; sys.exit(sys.version_info.releaselevel != 'final')"
    try:
        return subprocess.run([python, "-c", program], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def environment(name: str, python: str, requirements: Path) -> Path:
    """Return the Python of a virtual environment with these requirements and mailglass, built if it is not there."""
    directory = ROOT / f".venv-{name}"
    ours = directory / "bin" / "python"
    stamp = directory / ".ready"
    made_of = hashlib.sha256(python.encode() + requirements.read_bytes() + (ROOT / "pyproject.toml").read_bytes())
    if stamp.exists() and stamp.read_text(encoding="ascii") == made_of.hexdigest():
        return ours
    shutil.rmtree(directory, ignore_errors=True)
    subprocess.run([python, "-m", "venv", directory], check=True)
    pip = [ours, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", requirements], check=True)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--editable", ROOT], check=True)
    stamp.write_text(made_of.hexdigest(), encoding="ascii")
    return ours


def oldest() -> Path:
    return environment("oldest", sys.executable, ROOT / "requirements" / "oldest.txt")


def newest() -> Path | None:
    """Return the Python of an environment on the newest Python, or None if there is no newer one."""
    python = newest_python(dict(os.environ))
    return environment("newest", python, ROOT / "requirements" / "dev.txt") if python else None


def main(arguments: list[str]) -> int:
    what, *rest = arguments
    if what == "oldest":
        return _run(oldest(), PRODUCER, rest)
    python = newest()
    if what == "prepare":
        oldest()
        return 0
    if python is None:
        version = ".".join(map(str, sys.version_info[:2]))
        print(f"No Python newer than {version} is installed: the unit tests, and Django's, ran on {version} alone.")
        if os.environ.get("CI") == "true":
            print("In CI there must be one: install it, or name it by NEWEST_PYTHON.", file=sys.stderr)
            return 1
        return 0
    print("The unit tests, and Django's, on the newest Python:", flush=True)
    return _run(python, NEWEST, rest)


def _run(python: Path, tests: tuple[str, ...], rest: list[str]) -> int:
    return subprocess.run([python, ROOT / "tests" / "run.py", *rest, *tests], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
