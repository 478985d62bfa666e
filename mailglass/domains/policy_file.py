"""The policy file of MTA-STS (RFC 8461 3.2): fetched over HTTPS where that is asked for, and parsed."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

POLICY: Final = "MTA-STS policy"
"""The type of a question that asks for the file."""

PATH: Final = "/.well-known/mta-sts.txt"
MAX_FILE: Final = 64 * 1024
MAX_PATTERNS: Final = 100
LONGEST_AGE: Final = 31_557_600
MODES: Final = ("enforce", "testing", "none")


class PolicyFileError(Exception):
    """The file was not fetched. Its text says why, in words of ours."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A parsed policy.

    Attributes:
        mode: `enforce`, `testing`, `none`, or what else is written.
        patterns: the hosts that may take mail, `*.` for any label.
        errors: what is wrong with it.
    """

    mode: str
    patterns: tuple[str, ...]
    errors: tuple[str, ...]

    def allows(self, host: str) -> bool:
        """Return whether an MX host may take mail (RFC 8461 4.1)."""
        return any(
            host == pattern or (pattern.startswith("*.") and host.partition(".")[2] == pattern[2:])
            for pattern in self.patterns
        )


def parse_policy(text: str) -> Policy:
    """Parse a policy file. Linear in its length; never raises."""
    fields: dict[str, str] = {}
    patterns: list[str] = []
    for line in text[:MAX_FILE].splitlines():
        name, separator, value = line.partition(":")
        key = name.strip().lower()
        if key == "mx" and separator:
            patterns.append(value.strip().lower().rstrip("."))
        elif separator:
            fields.setdefault(key, value.strip())
    mode, age = fields.get("mode", ""), fields.get("max_age", "")
    errors = []
    if fields.get("version") != "STSv1":
        errors.append("version is not STSv1")
    if mode not in MODES:
        errors.append("mode is none of enforce, testing, none")
    if not age.isdigit() or int(age[:12]) > LONGEST_AGE:
        errors.append("max_age is no number of seconds up to a year")
    if not patterns and mode != "none":
        errors.append("no mx")
    return Policy(mode, tuple(patterns[:MAX_PATTERNS]), tuple(errors))


def is_public(address: str) -> bool:
    """Return whether an address that DNS named may be sent packets to."""
    parsed = ipaddress.ip_address(address)
    return parsed.is_global and not parsed.is_multicast


async def fetch(
    host: str,
    addresses: Sequence[str],
    timeout: float,
    *,
    port: int = 443,
    verify: Any = True,
    allowed: Callable[[str], bool] = is_public,
) -> str:
    """Fetch a policy file from one of the host's addresses. Redirects are not followed (RFC 8461 3.3).

    Args:
        host: `mta-sts.<domain>`, which the certificate has to name.
        addresses: of the host; the first one that is allowed is connected to, and no name is looked up again.
        timeout: seconds for each step.
        port: of HTTPS.
        verify: an SSL context in place of the system's authorities.
        allowed: which addresses may be connected to.

    Raises:
        PolicyFileError: no address is allowed, or the file cannot be fetched.
    """
    import httpx

    address = next((item for item in addresses if allowed(item)), None)
    if address is None:
        raise PolicyFileError("its host has no public address")
    where = f"[{address}]" if ":" in address else address
    try:
        async with (
            httpx.AsyncClient(verify=verify, trust_env=False, timeout=timeout, follow_redirects=False) as client,
            client.stream(
                "GET", f"https://{where}:{port}{PATH}", headers={"Host": host}, extensions={"sni_hostname": host}
            ) as response,
        ):
            if response.status_code != 200:
                raise PolicyFileError(f"HTTP status {response.status_code}")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_FILE:
                    raise PolicyFileError(f"more than {MAX_FILE} octets")
    except httpx.TimeoutException:
        raise PolicyFileError("no answer in time") from None
    except httpx.HTTPError as error:
        raise PolicyFileError(f"HTTPS failed ({type(error).__name__}): look at its certificate") from None
    return body.decode("latin-1")
