"""The tree of an SPF record: what it includes, the cost of each part, and where an evaluation would end in an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from mailglass.domains.lookups import Facts, Lookup, LookupStatus
from mailglass.domains.names import is_queryable
from mailglass.domains.spf_record import MAX_MX, SPFRecord, Term, expand, is_spf, parse_spf

# enough to show by how much a record exceeds the limit of 10; a hostile tree ends here
MAX_NODES: Final = 40
MAX_DEPTH: Final = 12
MAX_FOLLOWED: Final = 30


@dataclass(slots=True)
class Node:
    """One record of the tree.

    Attributes:
        domain: whose record it is.
        term: the term that leads here; None for the root.
        lookup: its TXT records.
        records: those that are SPF.
        record: the record, if there is exactly one.
        children: what it includes or redirects to, in order.
        loop: the domain stands above itself.
        cut: not followed further, because the tree is too large.
    """

    domain: str
    term: Term | None
    lookup: Lookup
    records: tuple[str, ...] = ()
    record: SPFRecord | None = None
    children: list[Node] = field(default_factory=list)
    loop: bool = False
    cut: bool = False

    @property
    def cost(self) -> int:
        """The lookups that count towards the limit of 10 (RFC 7208 4.6.4), those of its children included."""
        own = 0
        if self.record is not None:
            own = sum(term.costs for term in self.record.evaluated) + (self.record.redirect is not None)
        return own + sum(child.cost for child in self.children)


@dataclass(slots=True)
class Tree:
    """Result of the walk.

    Attributes:
        root: the domain's own record.
        lookups: all that were made.
        voids4: host lookups that find nothing for a sender with an IPv4 address, as `term at domain`.
        voids6: the same for IPv6.
        crowded: `mx` terms with more than 10 hosts.
        pointers: `ptr` terms.
        unclear: lookups that failed.
        macros: terms that depend on the message and are not followed.
        nodes: how many records were read.
        followed: how many terms were looked up.
    """

    root: Node
    lookups: list[Lookup] = field(default_factory=list)
    voids4: list[str] = field(default_factory=list)
    voids6: list[str] = field(default_factory=list)
    crowded: list[str] = field(default_factory=list)
    pointers: list[str] = field(default_factory=list)
    unclear: list[Lookup] = field(default_factory=list)
    macros: list[str] = field(default_factory=list)
    nodes: int = 0
    followed: int = 0

    @property
    def cut(self) -> bool:
        """True if the tree is too large to be followed to its end. Far above any limit by then."""
        return self.followed > MAX_FOLLOWED or any(node.cut for node in walk(self.root))

    @property
    def voids(self) -> list[str]:
        """The lookups that find nothing whatever the sender's address."""
        return [item for item in self.voids4 if item in self.voids6]

    def broken(self) -> list[tuple[Node, str]]:
        """Return the records that make the whole evaluation a permerror, with the reason."""
        return [(node, reason) for node in walk(self.root) if (reason := _reason(node))]


def walk(node: Node) -> list[Node]:
    """Return a node and all below it, in the order in which they are evaluated."""
    found, waiting = [], [node]
    while waiting:
        current = waiting.pop()
        found.append(current)
        waiting.extend(reversed(current.children))
    return found


def _reason(node: Node) -> str:
    if node.loop:
        return "it leads back to itself"
    if node.lookup.failed or node.cut:
        return ""
    if len(node.records) > 1:
        return f"it has {len(node.records)} SPF records"
    if node.record is None:
        return "it has no SPF record" if node.term is not None else ""
    return node.record.errors[0] if node.record.errors else ""


def grow(facts: Facts, domain: str) -> Tree:
    """Follow a domain's SPF record through all that it includes; what is not collected yet is asked for.

    Args:
        facts: the DNS facts.
        domain: whose record.
    """
    lookup = facts.ask(domain, "TXT")
    tree = Tree(Node(domain, None, lookup))
    _read(facts, tree, tree.root, (domain,))
    return tree


def _read(facts: Facts, tree: Tree, node: Node, above: tuple[str, ...]) -> None:
    tree.nodes += 1
    tree.lookups.append(node.lookup)
    if node.lookup.failed:
        tree.unclear.append(node.lookup)
        return
    node.records = tuple(text for text in node.lookup.texts if is_spf(text))
    if len(node.records) != 1:
        return
    node.record = parse_spf(node.records[0])
    for term in node.record.evaluated:
        if not term.error:
            _follow(facts, tree, node, term, above)
    redirect = node.record.redirect
    if redirect is not None and not redirect.error:
        _descend(facts, tree, node, redirect, above)


def _follow(facts: Facts, tree: Tree, node: Node, term: Term, above: tuple[str, ...]) -> None:
    tree.followed += term.costs
    if tree.followed > MAX_FOLLOWED:
        return
    if term.name == "include":
        _descend(facts, tree, node, term, above)
        return
    if term.name == "ptr":
        tree.pointers.append(f"{term.text} of {node.domain}")
    name = _target(tree, node, term)
    if not name:
        tree.macros.append(f"{term.text} of {node.domain}")
    elif term.name == "a":
        _host(facts, tree, term, node, name, {"A": tree.voids4, "AAAA": tree.voids6})
    elif term.name == "exists":
        # RFC 7208 5.7: an A query, whatever the family of the sender
        _exists(facts, tree, term, node, name)
    elif term.name == "mx":
        _exchangers(facts, tree, term, node, name)


def _target(tree: Tree, node: Node, term: Term) -> str:
    """Return the name that a term looks up; "" where it depends on the message."""
    name = expand(term.value, node.domain, tree.root.domain) if term.value else node.domain
    return name if is_queryable(name) else ""


def _host(
    facts: Facts, tree: Tree, term: Term, node: Node, host: str, voids: dict[str, list[str]], owner: str = ""
) -> None:
    for rdtype, found_nothing in voids.items():
        lookup = facts.ask(host, rdtype)
        tree.lookups.append(lookup)
        if lookup.failed:
            tree.unclear.append(lookup)
        elif not lookup.found:
            found_nothing.append(f"{term.text} of {owner or node.domain}")


def _exists(facts: Facts, tree: Tree, term: Term, node: Node, name: str) -> None:
    lookup = facts.ask(name, "A")
    tree.lookups.append(lookup)
    if lookup.failed:
        tree.unclear.append(lookup)
    elif not lookup.found:
        tree.voids4.append(f"{term.text} of {node.domain}")
        tree.voids6.append(f"{term.text} of {node.domain}")


def _exchangers(facts: Facts, tree: Tree, term: Term, node: Node, name: str) -> None:
    lookup = facts.ask(name, "MX")
    tree.lookups.append(lookup)
    if lookup.failed:
        tree.unclear.append(lookup)
        return
    if not lookup.found:
        tree.voids4.append(f"{term.text} of {node.domain}")
        tree.voids6.append(f"{term.text} of {node.domain}")
    hosts = [record.host for record in lookup.hosts if record.host]
    if len(hosts) > MAX_MX:
        tree.crowded.append(f"{term.text} of {node.domain} with {len(hosts)} hosts")
    for host in hosts[:MAX_MX]:
        _host(facts, tree, term, node, host, {"A": [], "AAAA": []})


def _descend(facts: Facts, tree: Tree, node: Node, term: Term, above: tuple[str, ...]) -> None:
    domain = _target(tree, node, term)
    if not domain:
        tree.macros.append(f"{term.text} of {node.domain}")
        return
    if domain in above:
        looped = Node(domain, term, node.lookup, loop=True)
        node.children.append(looped)
        return
    if tree.nodes >= MAX_NODES or len(above) >= MAX_DEPTH:
        node.children.append(Node(domain, term, node.lookup, cut=True))
        return
    child = Node(domain, term, facts.ask(domain, "TXT"))
    node.children.append(child)
    _read(facts, tree, child, (*above, domain))
    if child.lookup.status in (LookupStatus.NODATA, LookupStatus.NXDOMAIN):
        for voids in (tree.voids4, tree.voids6):
            voids.append(f"{term.text} of {node.domain}")
