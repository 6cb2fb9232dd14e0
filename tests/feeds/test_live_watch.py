"""The watch and the live engine together: what was decided live is what a replay of the same records decides."""

import gzip
import json
from pathlib import Path

import pytest

from adapters import app
from adapters.feeds import watch
from adapters.feeds.feed import running
from adapters.feeds.watch import Watch, known_to
from adapters.live import Live
from domain.resources import KINDS, Key
from tests.feeds.conftest import DATA, until
from tests.servers.api_server import ApiServer, changes_in

HERE = ("namespaces", "vpcs.kubeovn.io", "subnets.kubeovn.io", "ips.kubeovn.io", "iptables-eips.kubeovn.io")


def test_what_went_while_the_daemon_was_down_is_gone_from_the_ledger_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(watch, "MOST_SECONDS", 0.1)
    recorded = changes_in(gzip.decompress((DATA / "mixed-small" / "watch.jsonl.gz").read_bytes()).splitlines())
    gone = next(change for change in recorded if change.type == "DELETED" and change.api == "ips.kubeovn.io")
    key = Key("ip", "", json.loads(gone.object)["metadata"]["name"])
    before = recorded.index(gone)
    address = str(tmp_path / "shop.ledger")
    kinds = [kind for kind in KINDS if kind.api in HERE]
    with ApiServer(HERE) as api:
        for steps in (recorded[:before], recorded[before:]):
            api.happen(steps)
            api.forget()
            with app.opened(address) as store:
                live = Live(store, address, window=0.2)
                live.start()
                feed = Watch(live.intake, api.kubeconfig(tmp_path), cluster="shop", known=known_to(live), kinds=kinds)
                with running(feed, "watch"):
                    now = str(api.revision)
                    until(lambda feed=feed, now=now: all(part.position == now for part in feed.state().parts))  # type: ignore[misc]
                    until(lambda live=live: live.stand().undecided == 0 and live.stand().events > 0)  # type: ignore[misc]
                with live.reading() as reading:
                    there = {key for key, one in reading.world.live.items() if one.uid}
                    assert (key in there) == (steps[0] is not gone)
                    gaps = {str(gap.key): gap.why for gap in reading.gaps}
                live.stop()
        assert "lacks it" in gaps[str(key)]
        shown = {json.loads(body)["metadata"]["name"] for name in HERE for body in api.there(name)[1]}
        assert {one.name for one in there} == shown
