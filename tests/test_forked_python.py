"""The Python that forks: whatever is started with it goes as with the real one."""

import os
import signal
import subprocess
import sys

import pytest
from waiting import until

FULL = "/dev/full"
PROGRAMS = {
    "arguments": ("-c 'import sys; print(sys.argv, __name__); sys.exit(3)' a --b", ""),
    "working directory and path": ("-c 'import os, sys; print(os.getcwd(), sys.path[:3], sys.argv)'", ""),
    "a module": ("-m told a --b", ""),
    "environment": ("-c 'import os; print(sorted(os.environ))'", ""),
    "standard input": ("-c 'import sys; print(sys.stdin.read().upper())'", "hello"),
    "a text as exit code": ("-c 'import sys; sys.exit(\"no\")'", ""),
    "an exception": ("-c '1 / 0' 2>&1 | tail -1", ""),
    "SIGKILL": ("-c 'import os; os.kill(os.getpid(), 9)'", ""),
    "SIGINT": ("-c 'import os; os.kill(os.getpid(), 2)' 2>&1 | tail -1", ""),
    "what is done at exit": ("-c 'import atexit; atexit.register(print, 1)'", ""),
    "closed input": ("-c 'import sys; print(sys.stdin)' <&-", ""),
    "closed output": ("-c 'import sys; sys.exit(sys.stdout is None and 4)' >&-", ""),
    "closed error": ("-c 'import sys; print(sys.stderr)' 2>&-", ""),
    "full output": (f"-c 'print(1)' 2>/dev/null >{FULL}", ""),
    "full output, at exit": (f"-c 'import sys; sys.stdout.write(str(1))' 2>/dev/null >{FULL}", ""),
    "full error": (f"-c 'import sys; sys.stderr.write(str(1))' 2>{FULL}", ""),
    "a reader that has enough": ("-c 'print(1); print(2)' | head -1", ""),
    "letters that are no UTF-8": ('-c \'import sys; print("\\udcff", file=sys.stderr); print("é")\' 2>&1', ""),
}
QUICK = ("arguments", "a module", "an exception", "SIGINT", "closed output", "full output")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a real one stands for it elsewhere")


@pytest.mark.parametrize(
    "program", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in PROGRAMS]
)
def test_it_goes_as_with_the_real_one(program, forked_python, tmp_path):
    line, given = PROGRAMS[program]
    (tmp_path / "told.py").write_text("import sys; print(sys.argv, __name__, sys.path[0])")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "ASKED": "for"}

    def ran(python: str) -> tuple[int, str, str]:
        words = ["bash", "-c", f"set -o pipefail; {python} {line}"]
        done = subprocess.run(
            words, input=given, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120
        )
        return done.returncode, done.stdout, done.stderr

    assert ran(forked_python) == ran(sys.executable)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 7), (signal.SIGUSR1, -signal.SIGUSR1)])
def test_signals_come_to_the_fork(number, code, forked_python):
    waits = (
        "import os, signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print(1, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([forked_python, "-c", waits], stdout=subprocess.PIPE)
    with process.stdout as said:
        said.readline()
    process.send_signal(number)
    assert process.wait(timeout=60) == code


def test_a_fork_whose_asker_was_killed_dies(forked_python):
    waits = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    process = subprocess.Popen([forked_python, "-c", waits], stdout=subprocess.PIPE)
    with process.stdout as said:
        fork = int(said.readline())
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    until(lambda: not os.path.exists(f"/proc/{fork}"))


def test_what_lasts_too_long_is_killed(forked_python):
    short = os.environ | {"FORK_SECONDS": "0.1"}
    done = subprocess.run([forked_python, "-c", "import time; time.sleep(60)"], env=short, check=False, timeout=50)
    assert done.returncode == -signal.SIGKILL
