"""Who follows findings is told every change once, in order, from where they were; and a slow one keeps nobody waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from adapters import app
from adapters.http import following
from adapters.http.answers import Problem
from adapters.http.following import Followers
from tests.adapters.http.double import Double

FINDING = {"id": "one", "status": "open"}


def run(tmp_path: Path, story: Callable[[Double, Followers], Coroutine[Any, Any, None]], most: int = 4) -> None:
    with app.opened(str(tmp_path / "l")) as store:
        live = Double(store, str(tmp_path / "l"))
        followers = Followers(live, most)
        try:
            asyncio.run(asyncio.wait_for(story(live, followers), 20))
        finally:
            followers.close()


async def numbers(stream: AsyncIterator[bytes], count: int) -> list[int]:
    found = []
    async for event in stream:
        if event.startswith(b"id: "):
            found.append(int(event.split(b"\n")[0][4:]))
            if len(found) == count:
                break
    return found


def test_every_change_is_told_once_whenever_one_begins_to_follow(tmp_path: Path):
    async def story(live: Double, followers: Followers) -> None:
        def changing() -> None:
            for _ in range(300):
                live.change("opened", FINDING)
                time.sleep(0.001)

        made = asyncio.get_running_loop().run_in_executor(None, changing)
        expected = [7 + 3 * number for number in range(300)]
        streams = []
        for _ in range(4):
            streams.append(asyncio.create_task(numbers(await followers.follow(0, 5), 300)))
            await asyncio.sleep(0.07)
        await made
        for stream in streams:
            assert await stream == expected

    run(tmp_path, story)


def test_a_stream_resumes_behind_the_number_that_was_had_over_many_pages(tmp_path: Path):
    async def story(live: Double, followers: Followers) -> None:
        for _ in range(250):
            live.change("opened", FINDING)
        assert await numbers(await followers.follow(7 + 3 * 20, 5), 229) == [7 + 3 * n for n in range(21, 250)]
        late = await followers.follow(None, 5)
        live.change("healed", FINDING)
        assert await numbers(late, 1) == [7 + 3 * 250], "without a number only what is new"

    run(tmp_path, story)


def test_a_quiet_stream_says_that_it_is_there(tmp_path: Path):
    async def story(live: Double, followers: Followers) -> None:
        stream = await followers.follow(None, 0.05)
        said = [await anext(stream) for _ in range(3)]
        assert said[1:] == [b": still here\n\n"] * 2

    run(tmp_path, story)


def test_who_reads_too_slowly_is_let_go_and_told_so(tmp_path: Path):
    async def story(live: Double, followers: Followers) -> None:
        stream = await followers.follow(None, 5)
        await anext(stream)
        for _ in range(following.QUEUE + 50):
            live.change("opened", FINDING)
        await asyncio.sleep(0.3)
        rest = [event async for event in stream]
        assert len(rest) == following.QUEUE + 1 and b"too slowly" in rest[-1]
        assert followers.dropped == 1 and len(followers) == 0
        last = int(rest[-2].split(b"\n")[0][4:])
        assert (await numbers(await followers.follow(last, 5), 1))[0] > last

    run(tmp_path, story)


def test_no_more_may_follow_than_there_is_place_for(tmp_path: Path):
    async def story(live: Double, followers: Followers) -> None:
        one = await followers.follow(None, 5)
        await anext(one)
        with pytest.raises(Problem, match="1 streams are open"):
            await followers.follow(None, 5)
        await one.aclose()  # type: ignore[attr-defined]
        for _ in range(3):
            await followers.follow(None, 5)  # whose reader went away before it began
        assert len(followers) == 0

    run(tmp_path, story, most=1)


def test_streams_end_with_the_daemon(tmp_path: Path):
    async def story(live: Double, followers: Followers) -> None:
        stream = await followers.follow(None, 5)
        await anext(stream)
        await asyncio.to_thread(followers.close)
        assert [event async for event in stream] == []
        with pytest.raises(Problem, match="stopping"):
            await followers.follow(None, 5)

    run(tmp_path, story)
