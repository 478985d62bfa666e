"""Generated zones: domains with SPF, DKIM and DMARC records, right and wrong, from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from tests.domain_zones import ed25519_key, rsa_key

# what no generated term matches, so that an evaluation reads every record to its end
OUTSIDER: Final = "203.0.113.77"
SELECTOR: Final = "s1"


@dataclass
class Generated:
    """A generated domain.

    Attributes:
        domain: that sends.
        records: of its zone, by `"name TYPE"`.
    """

    domain: str
    records: dict[str, list[str]] = field(default_factory=dict)


def generate(seed: int) -> Generated:
    """Return the domain of a seed.

    Args:
        seed: any number; the same one gives the same domain.
    """
    dice = random.Random(seed)
    depth = dice.choice((2, 2, 2, 3, 4, 5, 9))
    labels = [f"l{number}" for number in range(depth - 2)]
    # no two share a name, so that no oracle remembers what another zone has
    zone = Generated(".".join([*labels, f"d{seed}", f"zone{seed}"]))
    _hosts(zone, dice)
    _spf(zone, dice)
    _dkim(zone, dice)
    _dmarc(zone, dice)
    return zone


def _hosts(zone: Generated, dice: random.Random) -> None:
    domain = zone.domain
    zone.records |= {
        f"{domain} MX": [f"{number * 10} mx{number}.{domain}." for number in range(dice.choice((1, 1, 2, 3)))],
        f"{domain} A": ["192.0.2.10"],
        f"host.{domain} A": ["192.0.2.11"],
        f"six.{domain} AAAA": ["2001:db8::6"],
        f"crowd.{domain} MX": [f"{number} host.{domain}." for number in range(11)],
        f"few.{domain} MX": [f"10 host.{domain}."],
    }
    zone.records |= {f"mx{number}.{domain} A": ["192.0.2.12"] for number in range(3)}


_TERMS: Final = (
    "ip4:192.0.2.0/24",
    "ip4:198.51.100.7",
    "ip6:2001:db8::/32",
    "ip6:::1",
    "a",
    "mx",
    "a:host.{d}",
    "a:host.{d}/24",
    "a/24",
    "mx/24",
    "mx:few.{d}",
    "mx:few.{d}/26//64",
    "a:host.{d}//64",
    "a:gone.{d}",
    "mx:gone.{d}",
    "exists:gone.{d}",
    "exists:%{{i}}._spf.{d}",
    "include:%{{d}}.gone.{d}",
    "ptr",
    "ptr:{d}",
    "a:six.{d}",
)
_WRONG: Final = (
    "ipv4:192.0.2.1",
    "ip4:192.0.2.1/33",
    "ip4:192.0.2.300",
    "ip6:2001:::1",
    "a:host",
    "include:",
    "include",
    "exists:",
    "a:%{{z}}.{d}",
    "a:host.{d}/33",
    "ip4:",
    "a:%.{d}",
    "mx:crowd.{d}",
    "al",
    "include:gone.{d}",
    "include:two.{d}",
    "include:bad.{d}",
    "include:loop.{d}",
    "ip4=192.0.2.1",
    "ip4:192.0.2.1:25",
    "redirect=gone.{d}",
)
_MODIFIERS: Final = ("moo=cow", "exp=explain.{d}", "x-y.z_1=%{{d}}", "unknown=")
_ENDS: Final = ("-all", "~all", "?all", "", "-ALL", "~All")


def _spf(zone: Generated, dice: random.Random) -> None:
    domain = zone.domain
    texts = ["google-site-verification=1"]
    kind = dice.random()
    if kind > 0.04:
        texts.append(_record(zone, dice, 0))
    if kind > 0.97:
        texts.append("v=spf1 -all")
    if dice.random() < 0.1:
        texts.append("v=spf10 mx -all")
    zone.records[f"{domain} TXT"] = texts
    zone.records[f"two.{domain} TXT"] = ["v=spf1 -all", "v=spf1 ?all"]
    zone.records[f"bad.{domain} TXT"] = ["v=spf1 nonsense:x -all"]
    zone.records[f"loop.{domain} TXT"] = [f"v=spf1 include:loop.{domain} -all"]


def _record(zone: Generated, dice: random.Random, level: int) -> str:
    domain = zone.domain
    terms = [dice.choice(_TERMS) for _ in range(dice.randrange(0, 5))]
    if dice.random() < 0.12:
        terms.append(dice.choice(_WRONG))
    for _ in range(dice.choice((0, 0, 1, 2, 4)) if level < 3 else 0):
        name = f"n{len(zone.records)}.{domain}"
        zone.records[f"{name} TXT"] = []
        zone.records[f"{name} TXT"] = [_record(zone, dice, level + 1)]
        terms.append(f"include:{name}")
    if dice.random() < 0.2:
        terms.append(dice.choice(_MODIFIERS))
    dice.shuffle(terms)
    end = dice.choice(_ENDS)
    if not end and level < 3 and dice.random() < 0.5:
        name = f"r{len(zone.records)}.{domain}"
        zone.records[f"{name} TXT"] = [_record(zone, dice, level + 1)]
        end = f"redirect={name}"
    version = dice.choice(("v=spf1", "v=spf1", "v=spf1", "V=SPF1"))
    return " ".join(part.format(d=domain) for part in [version, *terms, end] if part)


def _dkim(zone: Generated, dice: random.Random) -> None:
    good = dice.choice((rsa_key(1024), rsa_key(2048)))
    tags = dice.choice(
        (
            f"v=DKIM1; k=rsa; p={good}",
            f"v=DKIM1; p={good}",
            f"p={good}",
            f"k=rsa; p={good};",
            "v=DKIM1; p=",
            f"v=DKIM1; k=ed25519; p={ed25519_key()}",
            f"v=DKIM1; k=ed25519; p={ed25519_key()[:20]}",
            f"v=DKIM2; p={good}",
            f"v=DKIM1; k=dsa; p={good}",
            f"v=DKIM1; p={good[:100]}",
            "v=DKIM1; k=rsa",
            f"v=DKIM1; h=sha256; s=email; t=s; n=note; p={good}",
            f"v=DKIM1; t=y:s; p={good}",
            f"v = DKIM1 ; p = {good[:70]} {good[70:]}",
            f"p={good}; p={good}",
            "v=DKIM1; p=@@@@",
            f"k=rsa;; p={good}",
        )
    )
    zone.records[f"{SELECTOR}._domainkey.{zone.domain} TXT"] = [tags]


_DMARC: Final = (
    "v=DMARC1; p=none",
    "v=DMARC1; p=reject; sp=quarantine; np=none",
    "v=DMARC1;p=quarantine;adkim=s;aspf=s",
    "v=DMARC1; p=reject; psd=n",
    "v=DMARC1; p=none; psd=y",
    "v=DMARC1; rua=mailto:d@{d}",
    "V = DMARC1 ; p = REJECT",
    "v=DMARC1; p=reject; pct=10; ri=3600",
    "v=DMARC1; p=reject; t=y",
    "v=DMARC1",
    "v=dmarc1; p=none",
    "v=DMARC1; p=reject; unknown=1",
    "p=reject; v=DMARC1",
    "v=DMARC2; p=none",
)


def _dmarc(zone: Generated, dice: random.Random) -> None:
    labels = zone.domain.split(".")
    for position in range(len(labels)):
        name = ".".join(labels[position:])
        chance = 0.6 if position == 0 else 0.35 if position < len(labels) - 1 else 0.2
        if dice.random() < chance:
            zone.records[f"_dmarc.{name} TXT"] = [dice.choice(_DMARC).format(d=zone.domain)]
        if dice.random() < 0.05:
            zone.records.setdefault(f"_dmarc.{name} TXT", []).append("v=DMARC1; p=reject")
        if dice.random() < 0.1:
            zone.records.setdefault(f"_dmarc.{name} TXT", []).append("other text")
