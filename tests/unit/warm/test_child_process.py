"""Whatever a child process does to itself, its parent notices, and the place is free; real processes, small pauses."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import pytest
from patience import PATIENCE

from jittask_prefect.errors import JittaskError
from jittask_prefect.warm import child_process, fork_servers
from jittask_prefect.warm.child_process import ChildDied, ChildProcess
from jittask_prefect.warm.children import ChildPool
from jittask_prefect.warm.flow_file import FlowFile
from jittask_prefect.warm.pipe import VERSION

# What stands for `child.py`: it speaks the pipe's language, and does something to itself at its first job.
CHILD = """
import json, os, signal, socket, sys, threading, time
pipe = socket.socket(fileno=int(sys.argv[1]))
def read():
    with pipe.makefile("rb") as lines:
        for text in lines:
            message = json.loads(text)
            if "ping" in message:
                pipe.sendall(b'{"pong": true}\\n')
            else:
                threading.Thread(target=harm).start()
def harm():
    HARM
pipe.sendall(b'{"ready": 1, "version": "VERSION"}\\n')
read()
time.sleep(60)
"""
HARMS = {
    "it stops itself": "os.kill(os.getpid(), signal.SIGSTOP)",
    "it closes the pipe": "pipe.shutdown(socket.SHUT_RDWR)",
    "it closes the pipe's number": "os.close(pipe.fileno())",
    "it closes all": "os.closerange(3, 10_000)",
    "it says no JSON": "pipe.sendall(b'Segmentation fault\\n')",
    "it says what is no message": "pipe.sendall(b'[1, 2]\\n')",
    "its answer is none": "pipe.sendall(b'{\"answer\": 5}\\n')",
    "it ends, and a copy holds the pipe": "os.fork() and os._exit(3)\n    time.sleep(60)",
    "it ends": "os._exit(3)",
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_child_that_does_something_to_itself_is_gone_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    monkeypatch.setattr(child_process, "PING_SECONDS", 0.05)
    monkeypatch.setattr(child_process, "CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(child_process, "DRAIN_SECONDS", 0.1)
    package = tmp_path / "jittask_prefect" / "running"
    package.mkdir(parents=True)
    code = CHILD.replace("HARM", HARMS[harm]).replace("VERSION", VERSION)
    (package / "child.py").write_text(code)
    start = asyncio.create_subprocess_exec

    async def exec_here(*command: str, **more: object) -> asyncio.subprocess.Process:
        return await start(
            sys.executable, str(package / "child.py"), *command[4:], **more
        )  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", exec_here)

    async def live() -> int:
        child = ChildProcess(FlowFile("", ""), lambda line: None)
        await asyncio.wait_for(asyncio.shield(child.ready), 20)
        with pytest.raises(ChildDied) as died:
            await asyncio.wait_for(child.request({"run": 1}), 5)
        assert child.ended.done()
        return died.value.code

    assert asyncio.run(live()) in ((3,) if "ends" in harm else (-9, 1))


@pytest.mark.parametrize("version", ["9.9.9", None])
def test_a_child_of_another_release_is_ended_and_no_other_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    """The package was upgraded under the running worker."""
    code = CHILD.replace('"VERSION"', '"9.9.9"')
    if version is None:  # of a time when children did not say
        code = code.replace(', "version": "9.9.9"', "")
    (tmp_path / "child.py").write_text(code)
    start = asyncio.create_subprocess_exec

    async def exec_here(*command: str, **more: object) -> asyncio.subprocess.Process:
        file = str(tmp_path / "child.py")
        return await start(sys.executable, file, *command[4:], **more)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", exec_here)
    monkeypatch.setattr(fork_servers, "BY_FORK", False)

    async def live() -> tuple[str, str]:
        pool = ChildPool(2, logging.getLogger("test"), lambda line: None)
        said: list[str] = []
        for _ in range(2):
            with pytest.raises(JittaskError) as refused:
                await asyncio.wait_for(pool.acquire(FlowFile("", "")), 30 * PATIENCE)
            said.append(str(refused.value))
            await asyncio.sleep(0)  # the pool hears of the end
        await pool.stop()
        return said[0], said[1]

    first, second = asyncio.run(live())
    found = version or "an earlier release"
    reason = f"upgrade: it has jittask-prefect {found}, its worker {VERSION}; restart the worker"
    assert reason in first and reason in second
