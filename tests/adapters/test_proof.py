"""Attestations and proofs: what a person can hold against a ledger that somebody else may write."""

import random
from hashlib import blake2b
from pathlib import Path

import msgspec
import pytest
from eventsourcing.dcb.api import DCBEvent
from hypothesis import given
from hypothesis import strategies as st

from adapters import proof
from adapters.ports import Proof, StoreError
from adapters.proof import NotAProof
from adapters.stores.event_block import (
    GENESIS,
    grown,
    inner_hash,
    levels_over,
    path_in,
    path_over,
    perfect_trees,
    root_of,
    root_over,
)
from adapters.stores.sqlite_file import SQLiteFile
from adapters.stores.sqlite_recorder import SQLiteRecorder


def leaf(number: int) -> bytes:
    return blake2b(b"%d" % number, digest_size=32).digest()


def rfc_6962(leaves: list[bytes]) -> bytes:
    """The tree as the RFC defines it, section 2.1: split at the largest power of two below the number of leaves."""
    if len(leaves) < 2:
        return leaves[0] if leaves else GENESIS
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return inner_hash(rfc_6962(leaves[:split]), rfc_6962(leaves[split:]))


def led(hash: bytes, path: list[tuple[bool, bytes]]) -> bytes:
    for is_left, beside in path:
        hash = inner_hash(beside, hash) if is_left else inner_hash(hash, beside)
    return hash


@pytest.mark.parametrize("leaves", range(70))
def test_both_ways_to_build_the_tree_are_the_one_of_the_rfc_and_every_path_leads_to_its_root(leaves):
    all_leaves = [leaf(n) for n in range(leaves)]
    wanted = rfc_6962(all_leaves)
    tree: list[bytes] = []
    levels = levels_over(all_leaves)
    rows = [grown(tree, n, one) for n, one in enumerate(all_leaves)]
    assert root_over(all_leaves) == root_of(tree) == wanted
    assert [rows[end - 1][height] for end, height in perfect_trees(leaves)] == tree
    for place, one in enumerate(all_leaves):
        assert led(one, path_in(levels, place)) == wanted
        above = path_over(leaves, place + 1, lambda end, height: rows[end - 1][height])
        assert led(one, above) == wanted
        assert len(above) <= leaves.bit_length()


@pytest.fixture
def recorder(ledger_file: SQLiteFile) -> SQLiteRecorder:
    """Events 1 to 58 in blocks of 1 to 13, and then one of 40."""
    recorder = SQLiteRecorder(ledger_file)
    position = 0
    for count in (1, 13, 1, 2, 3, 5, 1, 1, 1, 30, 40):
        recorder.append([DCBEvent("T", b"<%d>" % n, [f"n:{n}"]) for n in range(position + 1, position + count + 1)])
        position += count
    return recorder


def ends(recorder: SQLiteRecorder) -> list[int]:
    return [position for position in range(recorder.head() + 1) if recorder.seal(position) is not None]


def test_every_event_is_proved_under_every_head_there_ever_was(recorder):
    heads = ends(recorder)
    assert heads == [0, 1, 14, 15, 17, 20, 25, 26, 27, 28, 58, 98]
    for upto in heads[1:]:
        seal = recorder.seal(upto)
        for position in range(1, upto + 1):
            found = proof.read_proof(msgspec.json.encode(recorder.prove(position, upto)))
            proof.check(found)
            assert (found.position, found.data, found.digest) == (position, b"<%d>" % position, seal.digest.hex())


def test_a_proof_takes_as_many_hashes_as_the_log_has_digits(ledger_file):
    recorder = SQLiteRecorder(ledger_file)
    sizes = {}
    for count in (10, 100, 1000):
        while recorder.head() < 50 * count:
            recorder.append([DCBEvent("T", b"%d" % n) for n in range(count)])
        found = recorder.prove(recorder.head() // 2)
        sizes[count] = len(found.in_block) + len(found.above)
    assert sizes[1000] <= 10 + 8
    assert sizes[1000] - sizes[10] <= 10


def test_no_proof_is_given_of_what_is_not_there_or_under_a_head_that_never_was(recorder):
    for position, upto in ((0, 98), (99, 98), (99, None), (15, 14), (1, 2), (-1, 14), (1, 99), (1, 0)):
        with pytest.raises(StoreError, match="there is no proof for position"):
            recorder.prove(position, upto)


CHANGED = {
    "position": 30,
    "head": b"\x91\xa1U",
    "data": b"<30>",
    "first": 28,
    "events": 31,
    "content": bytes(32),
    "digest": bytes(32).hex(),
}


@pytest.mark.parametrize("field", CHANGED)
def test_a_proof_of_which_anything_was_changed_does_not_hold(recorder, field):
    found = recorder.prove(33, 58)
    proof.check(found)
    with pytest.raises(NotAProof):
        proof.check(msgspec.structs.replace(found, **{field: CHANGED[field]}))


@given(st.data())
def test_a_proof_of_which_a_hash_or_its_side_was_changed_dropped_or_added_does_not_hold(data):
    found = PROOF
    path = data.draw(st.sampled_from(["in_block", "above"]))
    steps = list(getattr(found, path))
    place = data.draw(st.integers(0, len(steps) - 1))
    is_left, beside = steps[place]
    match data.draw(st.sampled_from(["side", "hash", "dropped", "added"])):
        case "side":
            steps[place] = (not is_left, beside)
        case "hash":
            steps[place] = (is_left, bytes([beside[0] ^ 1]) + beside[1:])
        case "dropped":
            del steps[place]
        case "added":
            steps.insert(place, (is_left, bytes(32)))
    with pytest.raises(NotAProof):
        proof.check(msgspec.structs.replace(found, **{path: steps}))


def _some_proof() -> Proof:
    import tempfile

    with tempfile.TemporaryDirectory() as folder, SQLiteFile(Path(folder) / "some.ledger", durable=False) as file:
        recorder = SQLiteRecorder(file)
        for count in (7, 3, 20, 11, 6):
            recorder.append([DCBEvent("T", b"%d" % random.randrange(9)) for _ in range(count)])
        return recorder.prove(19)


PROOF = _some_proof()


def test_what_was_attested_is_found_again_when_the_log_has_grown(recorder):
    attestation = proof.attested(recorder, "shop.ledger")
    assert attestation.position == 98
    recorder.append([DCBEvent("T", b"later")])
    assert list(proof.against(recorder, attestation)) == []
    proof.check_against(recorder.prove(7, 98), attestation)
    with pytest.raises(NotAProof, match="--head 98"):
        proof.check_against(recorder.prove(7), attestation)


def test_a_log_that_was_cut_off_or_written_anew_is_not_what_was_attested(recorder, tmp_path):
    attestation = proof.attested(recorder, "shop.ledger")
    with SQLiteFile(tmp_path / "other.ledger") as file:
        other = SQLiteRecorder(file)
        other.append([DCBEvent("T", b"other") for _ in range(97)])
        (problem,) = proof.against(other, attestation)
        assert problem.number == 98 and "missing: attested up to 98" in problem.reason
        other.append([DCBEvent("T", b"other")])
        (problem,) = proof.against(other, attestation)
        assert "the log up to 98 is not what was attested" in problem.reason
        assert list(other.verify()) == []  # in itself it is sound: only what was kept elsewhere tells


def test_an_attestation_is_read_out_of_what_a_signature_put_around_it(recorder):
    attestation = proof.attested(recorder, "shop.ledger")
    kept = b"-----BEGIN SIGNED MESSAGE-----\nHash: SHA256\n\n%s\n-----BEGIN SIGNATURE-----\nabc\n"
    assert proof.read_attestation(kept % msgspec.json.encode(attestation)) == attestation


@pytest.mark.parametrize("text", [b"", b"hello", b"{", b'{"netledger": "proof/1"}', b'{"netledger": "attestation/2"}'])
def test_what_is_no_attestation_is_called_so(text):
    with pytest.raises(NotAProof, match="this is no attestation"):
        proof.read_attestation(text)
