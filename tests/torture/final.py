"""What is in the store at the end, read without AMFS: objects by plain listing and gets."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

_VERSION = re.compile(r"default/entries/(?P<entity>.+)/(?P<key>[^/]+)/v(?P<number>[0-9]+)\.json")
_OUTCOME = re.compile(r"default/outcomes/(?P<ref>[^/]+)\.json")


@dataclass(frozen=True, slots=True)
class Version:
    """One version as it is in the store.

    Of an erased one the value, the agent and what it counted are gone: `sha256` is the one that the
    content had, and `outcome` is found by the `write_id` that an outcome gives.
    """

    key: str
    number: int
    write_id: str
    sha256: str
    previous: str | None
    deleted: bool
    value: Any
    agent: str
    claim: int
    outcome: str | None
    erased: bool = False
    purges: bool = False

    @property
    def by(self) -> str | None:
        """The operation that the value names."""
        return self.value.get("by") if isinstance(self.value, dict) else None

    @property
    def count(self) -> int:
        """What an update adds one to."""
        return self.value["count"] if isinstance(self.value, dict) and not self.deleted else 0


@dataclass(slots=True)
class Final:
    """Every memory's versions by number, every outcome by reference, and what is neither."""

    chains: dict[str, dict[int, Version]] = field(default_factory=lambda: defaultdict(dict))
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def newest(self) -> dict[str, int]:
        """The number of each memory's newest version."""
        return {key: max(chain) for key, chain in self.chains.items()}


def read(objects: Mapping[str, bytes]) -> Final:
    """The state that objects, by their keys below the prefix, stand for."""
    final = Final()
    prefixes: dict[str, str] = {}
    for name, body in sorted(objects.items()):
        version, outcome = _VERSION.fullmatch(name), _OUTCOME.fullmatch(name)
        fields = _unsealed(body)
        if fields is None or (version is None and outcome is None):
            final.broken.append(f"{name} is not a sealed object of the layout: {body[:80]!r}")
        elif version is not None:
            _add(final, name, version, fields)
            prefixes[version["key"]] = name[: version.start("number") - 1]
        elif outcome is not None:
            final.outcomes[outcome["ref"]] = fields
    _recognise(final, prefixes)
    return final


def _recognise(final: Final, prefixes: Mapping[str, str]) -> None:
    """Find which outcomes were counted by the versions that are erased."""
    for key, chain in final.chains.items():
        ids = {
            _write_id(f"default/outcomes/{ref}.json", prefixes[key]): ref for ref in final.outcomes
        }
        for number, version in chain.items():
            if version.erased:
                chain[number] = replace(version, outcome=ids.get(version.write_id))


def _write_id(outcome_key: str, prefix: str) -> str:
    return hashlib.sha256(f"{outcome_key}\n{prefix}".encode()).hexdigest()[:32]


def _unsealed(body: bytes) -> dict[str, Any] | None:
    covered, mark, seal = body.rpartition(b',"sha256":"')
    if not mark or seal != hashlib.sha256(covered).hexdigest().encode() + b'"}':
        return None
    fields: dict[str, Any] = json.loads(body)
    return fields


def _add(final: Final, name: str, place: re.Match[str], fields: dict[str, Any]) -> None:
    number, provenance = int(place["number"]), fields["provenance"]
    named = (fields["entity_path"], fields["key"], fields["version"])
    if named != (place["entity"], place["key"], number):
        final.broken.append(f"{name} says that it is {named}")
        return
    final.chains[place["key"]][number] = Version(
        place["key"],
        number,
        provenance["write_id"],
        fields.get("erased") or fields["sha256"],
        fields["previous"],
        fields["deleted"],
        fields["value"],
        provenance["agent_id"],
        fields.get("claim") or number,
        provenance.get("outcome_ref"),
        erased="erased" in fields,
        purges=fields.get("purges", False),
    )
