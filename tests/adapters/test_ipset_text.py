"""The texts of ipset and nft: what each line means, what a restore comes to, and that no text makes a parser fail."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.sources.ipset_text import (
    Entry,
    member,
    parse_list,
    parse_nft,
    parse_restore,
    parse_save,
    restore_text,
    words_of,
)
from domain.ipset import Effect, own_temporary_name
from tests.replaying import DATA

OPTIONS = "family inet maxelem 65536 timeout 0"
DUAL_STACK = (DATA / "public" / "ipset-save-dual-stack.txt").read_text()


def restored(*lines: str) -> dict[str, Effect]:
    effects, bad = parse_restore("\n".join(lines))
    assert bad == []
    return effects


# ---- dumps


def test_a_real_dump_of_a_dual_stack_node_is_read_whole():
    sets, bad = parse_save(DUAL_STACK)
    assert not bad
    creates = sum(line.startswith("create ") for line in DUAL_STACK.splitlines())
    adds = sum(line.startswith("add ") for line in DUAL_STACK.splitlines())
    assert len(sets) == creates and sum(len(listed.members) for listed in sets) == adds
    subnets = next(listed for listed in sets if listed.name == "inet6:kube-router-pod-subnets")
    assert subnets.type == "hash:net" and subnets.options == "family inet6 maxelem 65536 timeout 0"
    assert subnets.members == ["2001:db8:42:1000::/64", "2001:db8:42:1001::/64"]


def as_list(text: str) -> str:
    """A save text as `ipset list` prints the same sets."""
    blocks: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["create"]:
            blocks.append(
                f"Name: {words[1]}\nType: {words[2]}\nRevision: 5\nHeader: {' '.join(words[3:])}\n"
                "Size in memory: 456\nReferences: 1\nNumber of entries: 2\nMembers:\n"
            )
        elif words[:1] == ["add"]:
            blocks[-1] += f"{' '.join(words[2:])}\n"
    return "\n".join(blocks)


@pytest.mark.parametrize("path", sorted((DATA / "s3-buggy" / "ipset").glob("*.save")), ids=lambda path: path.name)
def test_save_and_list_say_the_same_of_one_state(path: Path):
    saved, listed = parse_save(path.read_text()), parse_list(as_list(path.read_text()))
    assert saved == listed and not saved[1]
    assert parse_list(as_list(DUAL_STACK)) == parse_save(DUAL_STACK)


def test_notes_stand_apart_from_members_and_exclusions_are_members_of_their_own():
    sets, bad = parse_save(
        'create web hash:net comment\nadd web 10.0.0.0/8 timeout 30 comment "a b"\nadd web 10.1.0.0/16 nomatch\n'
    )
    assert sets[0].entries == [Entry("10.0.0.0/8", "timeout 30 comment a b"), Entry("10.1.0.0/16 nomatch")]
    assert not bad


@pytest.mark.parametrize(
    ("written", "kernel"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1/32", "10.0.0.1"),
        ("10.0.0.0/24", "10.0.0.0/24"),
        ("10.0.0.1,80", "10.0.0.1,tcp:80"),
        ("10.0.0.1,udp:53", "10.0.0.1,udp:53"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("2001:db8::1/128", "2001:db8::1"),
        ("2001:db8::/64,tcp:80", "2001:db8::/64,tcp:80"),
        ("00:11:22:33:44:55", "00:11:22:33:44:55"),
    ],
)
def test_a_member_is_compared_as_the_kernel_writes_it(written, kernel):
    assert member(written) == kernel and member(kernel) == kernel


def test_bad_lines_are_told_with_their_number_and_the_rest_is_read():
    sets, bad = parse_save('create web hash:ip\nadd web\nadd db 10.0.0.1\nadd web "10.0.0.2\nadd web 10.0.0.3\nboo\n')
    assert sets[0].members == ["10.0.0.3"]
    assert [wrong.line for wrong in bad] == [2, 3, 4, 6]
    assert "which no line before creates" in bad[1].reason


# ---- restores


def test_a_temporary_set_that_is_filled_and_swapped_is_the_whole_new_content():
    effects = restored(
        "create TMP-PRBJ7ASFQM5DJR3Q hash:ip timeout 0",
        "flush TMP-PRBJ7ASFQM5DJR3Q",
        "add TMP-PRBJ7ASFQM5DJR3Q 10.0.0.1 timeout 0",
        "create web hash:ip timeout 0",
        "swap TMP-PRBJ7ASFQM5DJR3Q web",
        "flush TMP-PRBJ7ASFQM5DJR3Q",
        "create db hash:ip timeout 0",
        "swap TMP-PRBJ7ASFQM5DJR3Q db",
        "flush TMP-PRBJ7ASFQM5DJR3Q",
        "destroy TMP-PRBJ7ASFQM5DJR3Q",
    )
    assert effects["web"].members == ("10.0.0.1",) and effects["db"].members == ()
    assert effects["web"].type == "hash:ip" and effects["web"].options == OPTIONS
    assert effects["TMP-PRBJ7ASFQM5DJR3Q"].gone


def test_kube_ovns_rewrite_and_its_deltas():
    effects = restored(
        "create ovn40subnets hash:net family inet maxelem 1048576",
        "create ovn4t0 hash:net family inet maxelem 1048576",
        "add ovn4t0 10.16.0.0/16",
        "swap ovn40subnets ovn4t0",
        "destroy ovn4t0",
        "add ovn40services 10.96.0.0/12",
        "del ovn40other-node 192.0.2.1 --exist",
    )
    assert effects["ovn40subnets"].members == ("10.16.0.0/16",) and effects["ovn4t0"].gone
    assert effects["ovn40subnets"].type == "hash:net"
    assert effects["ovn40services"] == Effect(added=("10.96.0.0/12",))
    assert effects["ovn40other-node"] == Effect(removed=("192.0.2.1",))


def test_a_restore_without_its_end_leaves_the_temporary_set_and_tells_what_it_is():
    effects = restored("flush TMP-DEZFJSJBULNQ6H3V", "add TMP-DEZFJSJBULNQ6H3V 10.0.0.1,tcp:80 timeout 0")
    left = effects["TMP-DEZFJSJBULNQ6H3V"]
    assert (left.type, left.options, left.members) == ("hash:ip,port", OPTIONS, ("10.0.0.1,tcp:80",))


def test_swap_rename_and_destroy_move_contents_between_names():
    effects = restored(
        "flush a", "add a 10.0.0.1", "flush b", "add b 10.0.0.2", "swap a b", "rename b c", "destroy a", "add d 1.1.1.1"
    )
    assert effects["c"].members == ("10.0.0.1",)
    assert effects["a"].gone and effects["b"].gone
    assert effects["d"] == Effect(added=("1.1.1.1",))
    swapped = restored("swap x y", "add x 10.0.0.9")
    assert swapped["y"].members is None and not swapped["y"].added, "what it holds now nobody saw"


def test_a_member_added_and_deleted_again_is_no_addition_and_flags_change_no_meaning():
    assert restored("add a 10.0.0.1 -exist", "del a 10.0.0.1") == {"a": Effect(removed=("10.0.0.1",))}
    assert restored("-A a 10.0.0.1", "-! -D a 10.0.0.2") == {"a": Effect(added=("10.0.0.1",), removed=("10.0.0.2",))}
    assert words_of("add -exist a 10.0.0.1") == ["add", "a", "10.0.0.1"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("swap a", "needs 2 words"),
        ("create a hash:", "no type of set"),
        ("frobnicate a", "no command"),
        ('add a "b', "cannot be told apart"),
    ],
)
def test_what_is_no_command_is_told_and_the_rest_is_played(line, reason):
    effects, bad = parse_restore(f"{line}\nadd z 10.0.0.1")
    assert effects["z"].added == ("10.0.0.1",) and reason in bad[0].reason and bad[0].line == 1


TYPES = st.sampled_from(["hash:ip", "hash:net", "hash:ip,port"])
MEMBERS = st.sets(st.ip_addresses(v=4).map(str), max_size=6)


@given(type=TYPES, members=MEMBERS, excluded=MEMBERS, name=st.from_regex(r"[a-z]{1,31}", fullmatch=True))
def test_what_is_printed_for_a_restore_comes_to_exactly_these_members(type, members, excluded, name):
    wanted = {member(one) for one in members} | {f"{member(one)} nomatch" for one in excluded}
    lines = restore_text(name, own_temporary_name(name), type, OPTIONS, wanted)
    assert lines == restore_text(name, own_temporary_name(name), type, OPTIONS, sorted(wanted, reverse=True))
    effects = restored(*lines)
    assert effects.pop(own_temporary_name(name)).gone
    assert effects == {name: Effect(type, OPTIONS, tuple(sorted(wanted)), made=True)}


# ---- nft


def test_nft_sets_are_named_by_family_and_table_and_their_elements_read_in_every_form():
    elements = [
        "10.0.0.1",
        {"prefix": {"addr": "10.1.0.0", "len": 16}},
        {"range": ["10.2.0.1", "10.2.0.9"]},
        {"concat": ["10.0.0.1", 80]},
        {"elem": {"val": "10.0.0.7", "timeout": 30, "comment": "x"}},
    ]
    one = {
        "family": "inet",
        "name": "blocked",
        "table": "fw",
        "type": "ipv4_addr",
        "flags": ["interval"],
        "elem": elements,
    }
    document = {
        "nftables": [{"metainfo": {"version": "1"}}, {"table": {"name": "fw"}}, {"set": one}, {"set": {"name": 1}}]
    }
    sets, bad = parse_nft(json.dumps(document))
    assert [listed.name for listed in sets] == ["nft:inet:fw:blocked"] and len(bad) == 1
    assert sets[0].members == ["10.0.0.1", "10.0.0.1,80", "10.0.0.7", "10.1.0.0/16", "10.2.0.1-10.2.0.9"]
    assert sets[0].entries[-1].notes == "timeout 30 comment x" and sets[0].options == "interval"


# ---- anything


WORD = st.sampled_from(
    ["create", "add", "del", "flush", "swap", "rename", "destroy", "-exist", "a", "b", "hash:ip", "timeout"]
)
LINE = st.lists(st.one_of(WORD, st.text(max_size=6)), max_size=6).map(" ".join)


@given(st.lists(LINE, max_size=12).map("\n".join))
def test_no_text_makes_a_parser_fail(text):
    for parse in (parse_save, parse_list, parse_restore, parse_nft):
        _, bad = parse(text)
        assert all(wrong.reason for wrong in bad)
