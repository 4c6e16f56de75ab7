"""A Python that starts at once: one process imports the package when it is first asked for, and forks from then on.

``forked_python`` of the tests' conftest stands where ``sys.executable`` would, before ``-c`` or ``-m``. What is started
is small: it hands arguments, environment, folder and standard streams (full and closed ones too) to the server, passes
signals on, and ends as its fork ends. What only a real start shows is started for real: variables that are read on
import (the server has one thread), limits of a shell, process groups, and SIGKILL, of which a fork dies a moment later.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path

VARIABLE = "FORKED_PYTHON"
SECONDS = 200.0
"""How long a fork may live, unless ``FORK_SECONDS`` says: less than a test may take."""
IMPORTED = ("distill_bench.cli", "torch._dynamo", "sklearn.datasets")  # what the command needs on digits


def start() -> Callable[[], object]:
    """Start a server, and put the path of its Python in ``FORKED_PYTHON``. Returns what stops it."""
    if sys.platform != "linux":
        os.environ[VARIABLE] = sys.executable
        return lambda: None
    folder = Path(tempfile.mkdtemp(prefix="forks"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen(64)
        server = subprocess.Popen(
            [sys.executable, __file__, "serve", str(listener.fileno())],
            stdin=subprocess.PIPE,  # at whose end it stops
            pass_fds=[listener.fileno()],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the tests
        )
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{__file__}" ask "{folder}/socket" "$@"\n')
    script.chmod(0o700)
    os.environ[VARIABLE] = str(script)

    return lambda: (server.communicate(timeout=60), shutil.rmtree(folder))


def _ask(address: str, words: list[str]) -> None:
    """Be what was started: have a fork do the work, and end as it ends."""
    streams = [number for number in range(3) if os.path.exists(f"/proc/self/fd/{number}")]
    server = socket.socket(socket.AF_UNIX)
    server.connect(address)
    request = {"words": words, "env": dict(os.environ), "cwd": os.getcwd(), "streams": streams}
    with open(os.memfd_create("request"), "w+") as file:
        json.dump(request, file)
        file.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        socket.send_fds(server, [b"-"], [file.fileno(), *streams])
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, _: server.send(bytes([number])))
    code = os.waitstatus_to_exitcode(int(server.recv(16) or b"256"))
    if code < 0:
        with contextlib.suppress(OSError):  # of SIGKILL
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _serve(listener: socket.socket) -> dict:
    """Fork for whoever asks, until the tests end. Returns in the forks alone: what a fork is to be."""
    sys.path[0], keepers = str(Path(__file__).parent.parent.parent), set[int]()
    while 0 not in select.select([listener, 0], [], [])[0]:
        for name in IMPORTED:
            importlib.import_module(name)
        gc.freeze()  # so that no fork goes through what it will not change
        asker, _ = listener.accept()
        if not (keeper := os.fork()):
            listener.close()
            return _keep(asker)
        asker.close()
        keepers.add(keeper)
        keepers -= {pid for pid in keepers if os.waitpid(pid, os.WNOHANG)[0]}
    os._exit(0)


def _keep(asker: socket.socket) -> dict:
    """Fork once more, send that fork the signals that come, and tell how it ended. Returns in the fork alone."""
    _, (content, *streams), _, _ = socket.recv_fds(asker, 1, 4)
    with open(content) as file:
        file.seek(0)
        request = json.load(file)
    if not (fork := os.fork()):
        asker.close()
        return request | {"streams": dict(zip(request["streams"], streams, strict=True))}
    ends = time.monotonic() + float(request["env"].get("FORK_SECONDS", SECONDS))
    ended, signals = os.pidfd_open(fork), b"-"
    while signals:
        found, _, _ = select.select([ended, asker], [], [], max(0.0, ends - time.monotonic()))
        if ended in found:
            break
        signals = asker.recv(64) if found else b""  # nothing where who asked is gone
        for number in signals or [signal.SIGKILL]:
            os.kill(fork, number)
    _, status = os.waitpid(fork, 0)
    with contextlib.suppress(OSError):
        asker.sendall(str(status).encode())
    os._exit(0)


def _become(words: list[str], env: dict[str, str], cwd: str, streams: dict[int, int]) -> None:
    """Be the process that was asked for, up to its end."""
    os.setsid()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.close(number)
        stream = None
        if number in streams:
            os.dup2(streams[number], number)
            os.close(streams[number])
            errors = "backslashreplace" if name == "stderr" else None
            stream = open(number, "w" if number else "r", errors=errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.chdir(cwd)
    before, given = (each.get("PYTHONPATH", "").split(os.pathsep) for each in (os.environ, env))
    os.environ.clear()
    os.environ.update(env)
    kind, what, *sys.argv[1:] = words
    sys.argv[0] = kind
    kept = [path for path in sys.path[1:] if path not in before]
    sys.path[:] = ["" if kind == "-c" else cwd, *filter(None, given), *kept]
    assert kind in ("-c", "-m"), f"{kind}: give -c or -m, or start a real process"
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), main.__dict__)


if __name__ == "__main__":
    role, where, *asked = sys.argv[1:]
    _ask(where, asked) if role == "ask" else _become(**_serve(socket.socket(fileno=int(where))))
