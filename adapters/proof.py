"""Heads that a person keeps elsewhere, and proofs that one event is in the log: what is checked without trusting the ledger.

An *attestation* says: at this time the log ended at this position, with this digest. Kept where nobody who can write the
ledger can reach it (a mail, a ticket, a signed commit), it shows later whether anything before that position was changed. A
*proof* carries one event and the few dozen hashes that lead from it to an attested digest. Both are one line of JSON.
`stores/event_block.py` has the hash tree, `stores/sqlite_recorder.py` walks it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal, TypeVar

import msgspec

from adapters.ports import Path, Problem, Proof, Recorder, StoreError
from adapters.stores import codec
from adapters.stores.event_block import block_hash, event_hashes, inner_hash


class NotAProof(ValueError):
    """What was given is no attestation or proof, or does not hold. The message says which and why."""


class Attestation(msgspec.Struct, frozen=True, kw_only=True):
    """A head of a ledger, for keeping elsewhere."""

    netledger: Literal["attestation/1"] = "attestation/1"
    ledger: str
    """The address that it was taken from, without a password."""
    position: int
    digest: str
    """Of everything up to that position: hexadecimal."""
    time: str
    """When it was taken: RFC 3339, UTC."""


_Kept = TypeVar("_Kept", Attestation, Proof)


def attested(recorder: Recorder, address: str) -> Attestation:
    """The head as it is now."""
    position = recorder.head()
    seal = recorder.seal(position)
    assert seal is not None  # an append ended where the log ends
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Attestation(ledger=address, position=position, digest=seal.digest.hex(), time=now)


def against(recorder: Recorder, attestation: Attestation) -> Iterator[Problem]:
    """What has changed in the log since it was attested; `recorder.verify` has to have found nothing."""
    head = recorder.head()
    if attestation.position > head:
        reason = f"attested up to {attestation.position} at {attestation.time}, and the log ends at {head}"
        yield Problem("ledger", head + 1, f"missing: {reason}")
        return
    seal = recorder.seal(attestation.position)
    if seal is None or seal.digest.hex() != attestation.digest:
        reason = f"is not what was attested at {attestation.time}: it was written anew since then, or is another ledger"
        yield Problem("ledger", None, f"the log up to {attestation.position} {reason}")


def read_attestation(text: bytes) -> Attestation:
    """An attestation that was kept; what a signature put around it is passed over. Raises `NotAProof`."""
    return _read(text, Attestation, "attestation")


def read_proof(text: bytes) -> Proof:
    """A proof that was kept. Raises `NotAProof`."""
    return _read(text, Proof, "proof")


def check(proof: Proof) -> None:
    """Whether the event leads to the digest. Raises `NotAProof`."""
    offset = proof.position - proof.first
    if not 0 <= offset < proof.events:
        raise NotAProof(f"the proof is wrong: position {proof.position} is not in the block that it names")
    if [is_left for is_left, _ in proof.in_block] != list(_sides(offset, proof.events)):
        raise NotAProof(f"the proof is wrong: its hashes lead to another place than position {proof.position}")
    (leaf,) = event_hashes([proof.head], [proof.data])
    root = _led(leaf, proof.in_block)
    digest = _led(block_hash(proof.first, proof.events, root, proof.content), proof.above)
    if digest.hex() != proof.digest:
        raise NotAProof(
            f"the proof is wrong: the event at {proof.position} does not lead to the digest {proof.digest[:16]}…"
        )


def check_against(proof: Proof, attestation: Attestation) -> None:
    """Whether the proof holds and leads to what was attested. Raises `NotAProof`."""
    check(proof)
    if (proof.upto, proof.digest) != (attestation.position, attestation.digest):
        raise NotAProof(
            f"the proof leads to the head at {proof.upto}, and the attestation is of {attestation.position}: ask for one "
            f"with `netledger prove {proof.position} --head {attestation.position}`"
        )


def told(proof: Proof, attestation: Attestation | None) -> Iterator[str]:
    """What a proof says, once it is checked, for people. Raises `NotAProof`."""
    if attestation is None:
        check(proof)
    else:
        check_against(proof, attestation)
    try:
        event = codec.decode(proof.data)
        what = f"{event.key} {event.happened}: {event.operation} by {event.actor or 'nobody that is named'}"
        yield f"position {proof.position}: {what}, {event.record}"
    except (msgspec.MsgspecError, StoreError):
        yield f"position {proof.position}: an event of {len(proof.data)} bytes that this netledger cannot read"
    if attestation is None:
        yield f"it is in the log that ends at {proof.upto} with the digest {proof.digest}"
        yield "whether that is the log you mean, an attestation tells: --against FILE"
    else:
        yield f"it is in the log that was attested at {attestation.time}, up to {attestation.position}: {attestation.ledger}"


def _led(hash: bytes, path: Path) -> bytes:
    for is_left, beside in path:
        hash = inner_hash(beside, hash) if is_left else inner_hash(hash, beside)
    return hash


def _sides(place: int, leaves: int) -> Iterator[bool]:
    """Of a leaf and those above it: whether its neighbour stands left of it. One without a neighbour passes up as it is."""
    while leaves > 1:
        if place ^ 1 < leaves:
            yield place % 2 == 1
        place, leaves = place // 2, (leaves + 1) // 2


def _read(text: bytes, kind: type[_Kept], name: str) -> _Kept:
    for line in text.splitlines():
        if line.lstrip().startswith(b"{"):
            try:
                return msgspec.json.decode(line, type=kind)
            except msgspec.MsgspecError as error:
                raise NotAProof(f"this is no {name}: {error}") from error
    raise NotAProof(f"this is no {name}: there is no line of JSON in it")
