"""A relay between a process and its database, server or Redis, which signals make silent; a program of its own.

    python benchmarks/faulting/relay.py PORT HOST:PORT [HOST:PORT …]

| signal | from then on |
|---|---|
| USR1 | connections stay open, and nothing passes, as after a cut cable |
| HUP | everything passes; what came meanwhile is passed on late |
| INT | new connections pass; the silent ones stay silent, as after a firewall that forgot them |
| USR2 | requests pass, and their answers are lost: the connection is closed as an answer comes |

With several targets it is a balancer: each connection goes to the next target, or to another where a target takes none.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from itertools import count

CHUNK = 65536


class Gate:
    """Whether a connection's data passes."""

    def __init__(self, silent: bool) -> None:
        self._open = asyncio.Event()
        if not silent:
            self._open.set()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    async def passed(self) -> None:
        await self._open.wait()


class Relay:
    """Passes connections on to its targets, as long as no signal says otherwise.

    Args:
        targets: Hosts and ports.
    """

    def __init__(self, targets: list[tuple[str, int]]) -> None:
        self._targets, self._turn = targets, count()
        self._gates: set[Gate] = set()
        self._silent = self._loses = False

    async def run(self, port: int) -> None:
        """Listen until the process ends."""
        loop = asyncio.get_running_loop()
        deeds = {
            signal.SIGUSR1: self.hold,
            signal.SIGHUP: self.heal,
            signal.SIGINT: self.forget,
            signal.SIGUSR2: self.lose_answers,
        }
        for number, deed in deeds.items():
            loop.add_signal_handler(number, deed)
        server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        await server.serve_forever()

    def hold(self) -> None:
        """Let nothing pass."""
        self._silent = True
        for gate in self._gates:
            gate.close()

    def heal(self) -> None:
        """Let everything pass."""
        self._silent = self._loses = False
        for gate in self._gates:
            gate.open()

    def forget(self) -> None:
        """Let new connections pass, and leave the silent ones."""
        self._gates.clear()
        self.heal()

    def lose_answers(self) -> None:
        """Close each connection as an answer comes."""
        self._loses = True

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        gate = Gate(self._silent)
        self._gates.add(gate)
        try:
            await gate.passed()
            other = await self._connect()
            if other is not None:
                asked = self._copy(reader, other[1], gate)
                answered = self._copy(other[0], writer, gate, answers=True)
                await asyncio.gather(asked, answered)
        finally:
            self._gates.discard(gate)
            writer.close()

    async def _connect(
        self,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        first = next(self._turn)
        for turn in range(len(self._targets)):
            host, port = self._targets[(first + turn) % len(self._targets)]
            with suppress(OSError):
                return await asyncio.open_connection(host, port)
        return None

    async def _copy(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        gate: Gate,
        *,
        answers: bool = False,
    ) -> None:
        """Pass one direction on, until a side closes or an answer is lost."""
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await gate.passed()
                if answers and self._loses:
                    break
                writer.write(data)
                await writer.drain()
        await gate.passed()
        with suppress(OSError):
            writer.close()


def main() -> None:
    port, *targets = sys.argv[1:]
    pairs = [target.rsplit(":", 1) for target in targets]
    asyncio.run(Relay([(host, int(number)) for host, number in pairs]).run(int(port)))


if __name__ == "__main__":
    main()
