"""The command `jittask` in bad surroundings: folders that may not be written, terminals of few characters, closed pipes.

`python -P surroundings.py` reads commands from standard input as JSON, `{"arguments", "cwd", "mode"}` a line, and answers each with
`{"code", "out", "err"}`. The package is imported once, and each command is a fork of this process.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


@dataclass(frozen=True)
class Said:
    """What a command left: its exit code and both outputs."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


Run = Callable[..., Said]


@contextmanager
def commands(**environment: str) -> Iterator[Run]:
    """A function that runs a command: `run(folder, "check", mode="")`.

    Args:
        environment: Variables of the process.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith("JITTASK_")}
    env.pop("PREFECT_API_URL", None)
    env.pop("COLUMNS", None)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-P", __file__],
        stdin=pipe,
        stdout=pipe,
        encoding="utf-8",
        env={**env, **environment},
        preexec_fn=_obey_modes,
    ) as process:
        assert process.stdin and process.stdout
        asked, answers = process.stdin, process.stdout

        def run(cwd: Path, *arguments: str, mode: str = "") -> Said:
            question = {"cwd": str(cwd), "arguments": arguments, "mode": mode}
            print(json.dumps(question), file=asked, flush=True)
            return Said(**json.loads(answers.readline()))

        yield run
        asked.close()


def _obey_modes() -> None:
    """Have root heed the modes of files too, from the next exec on; others do anyway."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        if prctl is not None:
            prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def _answer(question: dict[str, object], folder: Path) -> dict[str, object]:
    files = [folder / "out", folder / "err"]
    child = os.fork()
    if not child:
        try:
            _become(question, files)
        finally:
            os._exit(99)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    out, err = (file.read_bytes().decode("utf-8", "backslashreplace") for file in files)
    return {"code": code, "out": out, "err": err}


def _become(question: dict[str, object], files: list[Path]) -> None:
    """Run the command in this process, with its output where the mode says."""
    mode = str(question["mode"])
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    name, _, which = mode.partition(" ")
    numbers = {"out": (1,), "err": (2,), "both": (1, 2)}.get(which, ())
    for number in numbers:
        if name == "broken":  # nobody reads
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, number)
        elif name == "full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), number)
        elif name == "closed":
            os.close(number)
    os.chdir(str(question["cwd"]))
    arguments = question["arguments"]
    assert isinstance(arguments, list)
    if name == "closed":
        # Python finds at its start that a stream is closed.
        command = "from jittask_prefect.cli.commands import main; main()"
        os.execv(sys.executable, [sys.executable, "-P", "-c", command, *arguments])
    # New streams, as at Python's start: the old ones remember another file's nature.
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = ["jittask", *arguments]
    from jittask_prefect.cli.commands import main

    code = 98
    try:
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    except BaseException:  # noqa: BLE001  a test says what it was
        sys.excepthook(*sys.exc_info())
    try:
        sys.stdout.flush()
    except OSError:
        print("Exception ignored", file=sys.stderr)
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def _serve() -> None:
    import jittask_prefect.cli.commands
    import jittask_prefect.deploying.prefect_yaml
    import jittask_prefect.elements.scaffold  # noqa: F401

    with TemporaryDirectory() as folder:
        for line in sys.stdin:
            print(json.dumps(_answer(json.loads(line), Path(folder))), flush=True)


if __name__ == "__main__":
    _serve()
