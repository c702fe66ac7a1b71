"""Talks to the WebSocket server beside this. Argument: HOST:PORT."""

import asyncio
import sys

from websockets.asyncio.client import connect


async def main():
    async with connect(f"ws://{sys.argv[1]}/chat", proxy=None) as socket:
        for message in ("hello", "x" * 200_000, b"\x00\x01"):
            await socket.send(message)
            assert await socket.recv() == message
        await (await socket.ping())
    print("all of it")


asyncio.run(main())
