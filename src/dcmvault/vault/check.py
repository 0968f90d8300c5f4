"""Checking a vault: is everything there, is every byte right, is it as new as somebody remembers.

Levels: by default the structure (every object and copy is listed, packs have their sizes, the chain
is whole, and every part of every file is in a pack that is there); with `read_data` also every byte
of every copy against its name, and every blob opened, decoded and compared with its id. Files are
not put together: a record is itself a blob, so a file whose blobs are right is right. Without keys
every byte is compared with its name, and signatures are checked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from dcmvault.errors import (
    DestinationError,
    ObjectMissingError,
    UsageError,
    VaultDamagedError,
    VaultFormatError,
)
from dcmvault.ports.object_store import ObjectStore
from dcmvault.vault.chain import Witness, check_chain
from dcmvault.vault.check_contents import NOWHERE, ContentsCheck, PackFacts
from dcmvault.vault.check_objects import KeylessVault, ObjectCheck, Verdict
from dcmvault.vault.check_packs import PackCheck, PackContents
from dcmvault.vault.config import CONFIG_KEY, digest_of
from dcmvault.vault.copies import RedundantObjects
from dcmvault.vault.findings import CheckResult, Finding, Trouble
from dcmvault.vault.initialise import BALLAST_KEY, README_KEY
from dcmvault.vault.inventory import Inventory, name_of, take_inventory
from dcmvault.vault.key_objects import KEYS_PREFIX, generation_of
from dcmvault.vault.lease import LEASE_KEY
from dcmvault.vault.pack import PackEntry, pack_key
from dcmvault.vault.repository import Vault, read_config
from dcmvault.vault.snapshot import Link, SnapshotState, read_link
from dcmvault.vault.sound_packs import sound_pack

#: Read as a whole at every level: they are tiny.
_ALWAYS_READ = (CONFIG_KEY, README_KEY, LEASE_KEY, KEYS_PREFIX, "rescue/")
_ONE_COPY = ("packs/", "parity/")

#: Is told how many bytes of how many were read.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Subset:
    """Some of the packs, always the same ones: those whose name, as a number, falls into a part."""

    part: int  #: from 1
    of: int

    def has(self, name: bytes) -> bool:
        """Say whether a pack belongs to it."""
        return int.from_bytes(name[:8], "big") % self.of == self.part - 1


def read_subset(text: str) -> Subset:
    """Read `5%` or `3/10`; UsageError for what is neither."""
    try:
        if text.endswith("%"):
            share = float(text[:-1])
            if 0 < share <= 100:
                return Subset(1, max(round(100 / share), 1))
        else:
            part, of = map(int, text.split("/"))
            if 1 <= part <= of:
                return Subset(part, of)
    except ValueError:
        pass
    raise UsageError(
        "this is no part of a vault", hint="Write a share, as 5%, or one part of several, as 3/10."
    )


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """How far a check goes."""

    read_data: bool = False
    #: With `read_data`: only these packs; all other objects are small and always read.
    subset: Subset | None = None
    #: Keys that are read in any case.
    also: frozenset[str] = frozenset()
    threads: int = 2


def open_keyless(store: ObjectStore) -> KeylessVault:
    """Open a vault without secrets; VaultMissingError, VaultFormatError or VaultDamagedError."""
    config, raw = read_config(store)
    return KeylessVault(store, config, digest_of(raw), RedundantObjects(store, config.copies))


def check(
    vault: Vault | KeylessVault,
    request: CheckRequest | None = None,
    witness: Witness | None = None,
    progress: Progress = lambda _done, _total: None,
) -> CheckResult:
    """Check a vault. Changes nothing, takes no lock, remembers nothing that was read before.

    Other writers may be at work. Raises DestinationUnreachableError; damage is never raised.
    """
    fresh = vault.unread() if isinstance(vault, Vault) else vault
    return _Check(fresh, request or CheckRequest(), witness or Witness(), progress).run()


@dataclass(slots=True)
class _Check:
    vault: Vault | KeylessVault
    request: CheckRequest
    witness: Witness
    progress: Progress
    inventory: Inventory = field(default_factory=Inventory)
    findings: list[Finding] = field(default_factory=list)
    read_keys: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)
    bytes_read: int = 0
    facts: PackFacts | None = None
    links: list[Link] = field(default_factory=list)

    def run(self) -> CheckResult:
        """Do it."""
        self.inventory = take_inventory(self.vault.store)
        self.findings += _required(self.vault, self.inventory)
        if isinstance(self.vault, Vault):
            self.facts = PackFacts(self.vault, self.inventory, self._look_into)
            self.vault.ledger.refresh(self._pass_over)
        self._read_objects()
        contents: ContentsCheck | None = None
        forgotten: dict[str, frozenset[str] | None] = {}
        if isinstance(self.vault, Vault):
            assert self.facts is not None
            contents = self._contents(self.vault, self.facts)
            forgotten = contents.forgotten_by_head
        else:
            self.links = list(self._keyless_links())
        self.findings = _each_once(self.findings)
        names = [key.partition("/")[2] for key in self.unreadable if key.startswith("snapshots/")]
        self.findings += check_chain(self.links, names, forgotten, self.witness)
        return CheckResult(
            self._level(),
            tuple(self._looked_at_again()),
            objects=len(self.inventory.keys),
            snapshots=len(self.inventory.under("snapshots/")),
            packs=len(self.inventory.under("packs/")),
            bytes_stored=sum(self.inventory.sizes.values()),
            bytes_read=self.bytes_read,
            lost=frozenset(contents.lost) if contents is not None else frozenset(),
        )

    def _level(self) -> str:
        if isinstance(self.vault, KeylessVault):
            return "keyless"
        if not self.request.read_data:
            return "structure"
        return "read_data" if self.request.subset is None else "subset"

    # Objects

    def _is_to_be_read(self, key: str) -> bool:
        if key in self.request.also or key in self.unreadable or key.startswith(_ALWAYS_READ):
            return True
        reads_all = self.request.read_data or isinstance(self.vault, KeylessVault)
        if key.startswith(_ONE_COPY):
            subset = self.request.subset
            if reads_all and (subset is None or subset.has(name_of(key))):
                return True
            return key.startswith("packs/") and self._has_wrong_size(key)
        objects = self.vault.objects
        if reads_all or self.inventory.missing_copies(objects, key):
            return True
        if key == BALLAST_KEY:
            return self.inventory.sizes[key] != self.vault.config.ballast
        return self.inventory.sizes_differ(objects, key)

    def _has_wrong_size(self, key: str) -> bool:
        if not isinstance(self.vault, Vault):
            return False
        listed = self.vault.index.pack(name_of(key))
        return listed is not None and self.inventory.pack_size(key) != listed.size

    def _read_objects(self) -> None:
        """Read what is to be read, in several threads, with a bounded number on their way."""
        keys = [key for key in self.inventory.keys if self._is_to_be_read(key)]
        places = {key: self.vault.objects.places(key) for key in keys}
        sizes = {key: sum(self.inventory.sizes.get(one, 0) for one in places[key]) for key in keys}
        total, done = sum(sizes.values()), 0
        self.progress(0, total)
        with ThreadPoolExecutor(self.request.threads) as pool:
            waiting: deque[tuple[str, Future[Verdict]]] = deque()
            for key in [*keys, ""]:
                while waiting and (not key or len(waiting) > 2 * self.request.threads):
                    first, future = waiting.popleft()
                    self._take(first, future.result())
                    done += sizes[first]
                    self.progress(done, total)
                if key:
                    waiting.append((key, pool.submit(check_object, self.vault, key)))

    def _take(self, key: str, verdict: Verdict) -> None:
        self.read_keys.add(key)
        self.findings += verdict.findings
        self.bytes_read += verdict.bytes_read
        if key.startswith("packs/") and self.facts is not None:
            self.facts.note(name_of(key), verdict)

    def _look_into(self, name: bytes) -> Verdict:
        """Read a pack as a whole, because a part of it turned out to be wrong."""
        key = pack_key(name)
        verdict = check_object(self.vault, key)
        if key not in self.read_keys:
            self.read_keys.add(key)
            self.findings += verdict.findings
            self.bytes_read += verdict.bytes_read
        return verdict

    def _pass_over(self, key: str, _error: DestinationError) -> None:
        """Note an object that the vault's parts could not read; it is read as a whole later."""
        self.unreadable.add(key)

    # What is in it

    def _contents(self, vault: Vault, facts: PackFacts) -> ContentsCheck:
        self._unlisted_packs(vault, facts)
        self._gone_packs(vault, facts)
        self.links = vault.links(self._pass_over)
        states: list[tuple[Link, SnapshotState]] = []
        for link in self.links:
            try:
                states.append((link, vault.state(link)))
            except ObjectMissingError:
                continue
            except (VaultDamagedError, VaultFormatError) as error:
                self._pass_over(link.key, error)
        for key in sorted(self.unreadable - self.read_keys):
            self._take(key, check_object(vault, key))
        contents = ContentsCheck(vault, facts)
        contents.run(self.links, states)
        self.findings = list(_with_touched(self.findings, contents))
        self.findings += self._of_contents(vault, facts, contents)
        return contents

    def _unlisted_packs(self, vault: Vault, facts: PackFacts) -> None:
        """Look into packs that no index names: of a writer that died, or works now."""
        for key in self.inventory.under("packs/"):
            name = name_of(key)
            if vault.index.pack(name) is not None or key not in self.inventory.sizes:
                continue
            try:
                facts.unlisted.add([vault.packs.entry(name)])
            except (VaultDamagedError, VaultFormatError):
                verdict = self._look_into(name)
                facts.note(name, verdict)
                if verdict.right is not None:
                    rows = PackContents(vault).rows_in(verdict.right)
                    facts.unlisted.add([PackEntry(name, len(verdict.right), rows)])
            except ObjectMissingError:
                continue

    def _gone_packs(self, vault: Vault, facts: PackFacts) -> None:
        for name, pack in vault.index.packs.items():
            if not facts.is_there(name):
                facts.note_gone(pack, sound_pack(vault.store, vault.objects, name))

    def _of_contents(
        self, vault: Vault, facts: PackFacts, contents: ContentsCheck
    ) -> Iterator[Finding]:
        wrong = {finding.key for finding in self.findings}
        for key in contents.touched.objects():
            studies, files = contents.touched.of(key), contents.touched.files_of(key)
            if key == NOWHERE:
                message = "parts that snapshots need are in no pack that is known"
                yield Finding(Trouble.LOST, key, message, studies=studies, files=files)
            elif not facts.is_there(name_of(key)):
                mendable = name_of(key) in facts.mendable
                message = f"{key} is missing"
                yield Finding(Trouble.MISSING, key, message, mendable, studies=studies, files=files)
            elif vault.index.pack(name_of(key)) is None and key not in wrong:
                message = f"{key} is needed, but no index names it"
                yield Finding(
                    Trouble.UNLISTED, key, message, mendable=True, studies=studies, files=files
                )
        if contents.unnamed:
            message = (
                "lists of studies are lost; a repair that gives up what is lost finds the studies"
                " again in the packs"
            )
            yield Finding(Trouble.LOST, NOWHERE, message)
        needed = set(contents.touched.objects())
        for key in self.inventory.under("packs/"):
            if key in needed or key in wrong or vault.index.pack(name_of(key)) is not None:
                continue
            message = f"no index names {key}: its writer works now, or died; a prune removes it"
            yield Finding(Trouble.LEFT_OVER, key, message, is_note=True)

    def _keyless_links(self) -> Iterator[Link]:
        config = self.vault.config
        for key in self.inventory.under("snapshots/"):
            name = key.removeprefix("snapshots/")
            try:
                data = self.vault.objects.get(key)
                yield read_link(name, data, config.vault_id, config.verify_key)
            except ObjectMissingError:
                continue
            except (VaultDamagedError, VaultFormatError) as error:
                self._pass_over(key, error)

    def _looked_at_again(self) -> Iterator[Finding]:
        """Leave out what only seemed missing because somebody wrote or removed it meanwhile."""
        again: set[str] = set()
        for finding in self.findings:
            if finding.trouble is not Trouble.MISSING or finding.key.startswith(_ONE_COPY):
                yield finding
            elif finding.key not in again:
                again.add(finding.key)
                if self.inventory.missing_copies(self.vault.objects, finding.key) == list(
                    self.vault.objects.places(finding.key)
                ):
                    yield finding
                else:
                    found = check_object(self.vault, finding.key).findings
                    yield from (one for one in found if one.trouble is Trouble.MISSING)


def check_object(vault: Vault | KeylessVault, key: str) -> Verdict:
    """Read one object as `check` with `read_data` does: all its copies, all its blobs.

    An opened vault's index should be there (`Vault.refresh`). Safe for several threads.
    """
    if key.startswith("packs/"):
        return PackCheck(vault).read(name_of(key))
    return ObjectCheck(vault).read(key)


def _required(vault: Vault | KeylessVault, inventory: Inventory) -> Iterator[Finding]:
    """Yield what is missing altogether, and what should not be there."""
    for key in (CONFIG_KEY, README_KEY):
        if key not in inventory.keys:
            yield Finding(Trouble.MISSING, key, f"{key} is missing", mendable=True)
    for prefix, what in (("rescue/rescue-", "tool"), ("rescue/vault-format-", "format page")):
        if not inventory.under(prefix):
            yield Finding(
                Trouble.MISSING, "rescue/", f"the rescue {what} is missing", mendable=True
            )
    if vault.config.ballast and BALLAST_KEY not in inventory.sizes:
        message = "the ballast was given up on a full disk; a repair puts it back"
        yield Finding(Trouble.MISSING, BALLAST_KEY, message, mendable=True, is_note=True)
    keys = inventory.under(KEYS_PREFIX)
    if not keys:
        yield Finding(Trouble.MISSING, KEYS_PREFIX, "the vault's keys are missing")
    newest = max((generation_of(key) or 0 for key in keys), default=0)
    for key in keys:
        if generation_of(key) != newest:
            message = f"{key} is superseded; keys that were removed may still open it"
            yield Finding(Trouble.LEFT_OVER, key, message, mendable=True, is_note=True)
    yield from _parity(vault, inventory)
    for key in inventory.strangers:
        message = "the store holds something that is not the vault's"
        yield Finding(Trouble.LEFT_OVER, key, message, is_note=True)


def _parity(vault: Vault | KeylessVault, inventory: Inventory) -> Iterator[Finding]:
    packs = {name_of(key) for key in inventory.under("packs/") if key in inventory.sizes}
    parity = inventory.under("parity/")
    if vault.config.parity:
        for name in sorted(packs - {name_of(key) for key in parity}):
            key = f"parity/{name.hex()[:2]}/{name.hex()}"
            yield Finding(Trouble.MISSING, key, f"{pack_key(name)} has no parity", mendable=True)
    for key in parity:
        if name_of(key) not in packs:
            message = f"{key} belongs to a pack that is not there"
            yield Finding(Trouble.LEFT_OVER, key, message, is_note=True)
    for key in inventory.under("packs/"):
        if key not in inventory.sizes:
            message = f"{key} has only a copy from an interrupted repair"
            yield Finding(Trouble.MISSING, key, message, mendable=True)


def _each_once(findings: Iterable[Finding]) -> list[Finding]:
    """Leave out what both an object and the one it belongs to say."""
    seen: set[tuple[Trouble, str]] = set()
    kept = []
    for finding in findings:
        mark = (finding.trouble, finding.key)
        if mark not in seen or not finding.key.startswith("parity/"):
            kept.append(finding)
        seen.add(mark)
    return kept


def _with_touched(findings: Iterable[Finding], contents: ContentsCheck) -> Iterator[Finding]:
    for finding in findings:
        studies = contents.touched.of(finding.key) if finding.key.startswith("packs/") else {}
        files = contents.touched.files_of(finding.key)
        yield replace(finding, studies=studies, files=files) if studies else finding
