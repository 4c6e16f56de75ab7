"""A process that runs the command on hostile files, with bounds on memory and time and a guard that sees what it does.

The parent hands over orders as JSON lines; the process lives across cases and is replaced when it dies or hangs.
"""

import functools
import gc
import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
MEMORY_MB = 500
"""The most resident memory that a case may add: an image may have 50 million pixels, held in colour and once more."""
ADDRESS_SPACE = 6 * 2**30
"""What the process may map beyond what it has: keeps the machine whole, and is more than ``MEMORY_MB`` on purpose."""
USUAL_MB = 1000
"""What the process has resident when nothing hangs on to memory."""
CPU_SECONDS = 20.0
WALL_SECONDS = 60.0
PRECIOUS = b"made last week, not to be lost"
OUT = "out/set.safetensors"
FOLLOW_UPS = (
    ("info", "{out}"),
    ("render", "{out}", "--out", "{root}/out/set.png"),
    ("evaluate", "{out}", "--networks", "1", "--protocol", "quick-v1", "--compile", "off", "--quiet"),
    ("export", "{out}", "--to", "folder", "--out", "{root}/out/pictures"),
    ("export", "{out}", "--to", "mtt", "--out", "{root}/out/tensors"),
)
"""What is done with every set that was accepted."""

PROCESSES = {
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.forkpty",
    "os.spawn",
    "subprocess.Popen",
    "pty.spawn",
}
NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request"}
CHANGES = {
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate",
    "os.utime", "shutil.rmtree", "shutil.move", "shutil.copyfile",
}  # fmt: skip
COPIES = {"shutil.copyfile", "os.link", "os.symlink"}
"""These change their second argument."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Case:
    """Files, a command on them, and how it may end.

    Attributes:
        kind: for the tally.
        what: in words, for the failure's message.
        files: content by path, relative to the sandbox.
        command: its arguments; ``{root}`` is the sandbox and ``{out}`` the set to write.
        codes: the exit codes that are right; a case that may be accepted has 0 among them.
        makes_set: whether exit code 0 means that ``{out}`` is a set to be checked and used.
    """

    kind: str
    what: str
    files: dict[str, bytes]
    command: tuple[str, ...]
    codes: tuple[int, ...] = (3,)
    makes_set: bool = True

    @property
    def digest(self) -> str:
        parts = [repr(self.command).encode(), *(k.encode() + b"\0" + v for k, v in sorted(self.files.items()))]
        return hashlib.sha256(b"\0\0".join(parts)).hexdigest()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How Hypothesis prints it: without the files, which may be megabytes."""
        printer.text(repr(self))

    def __repr__(self) -> str:
        return f"Case({self.kind}: {self.what}; {' '.join(self.command)})"


@dataclass
class Tally:
    """The figures of a run."""

    digests: set[str] = field(default_factory=set)
    refused: dict[str, int] = field(default_factory=dict)
    accepted: int = 0
    code_run: int = 0
    harmed: int = 0
    lost: int = 0
    cells: int = 0
    most_mb: float = 0.0
    most_seconds: float = 0.0

    def lines(self) -> list[str]:
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(self.refused.items()))
        return [
            f"files tried: {len(self.digests)}",
            f"refused: {sum(self.refused.values())} ({kinds})",
            f"accepted and still valid: {self.accepted}",
            f"code run: {self.code_run}",
            f"files harmed: {self.harmed}",
            f"cells of suites run into trouble: {self.cells}, lost: {self.lost}",
            f"most memory a case added: {self.most_mb:.0f} MB (bound {MEMORY_MB}), most CPU time: "
            f"{self.most_seconds:.1f} s (bound {CPU_SECONDS:.0f})",
        ]


KINDS = {1: "RunFailed", 2: "UsageError", 3: "DataError"}


class Arena:
    """The sandbox, and the process in it.

    Args:
        plant: the name of a defect to plant in the process, to see that it is found.
    """

    def __init__(self, root: Path, plant: str = "") -> None:
        self.root, self._plant = root, plant
        self.tally = Tally()
        self._process: subprocess.Popen[str] | None = None
        (root / "user").mkdir(parents=True)
        (root / "user" / "thesis.tex").write_text("four years of work")

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=60)
            for stream in (self._process.stdin, self._process.stdout):
                if stream:
                    stream.close()
            self._process = None

    def try_case(self, case: Case) -> None:
        """Run a case; AssertionError where it does not end as it should."""
        self._set_up(case)
        before = _hashes(self.root)
        reply = self._ask({"command": case.command, "makes_set": case.makes_set})
        changed = {name for name, value in before.items() if _hashes(self.root).get(name) != value}
        if reply.get("code") == 0 and case.makes_set:
            changed -= {OUT}
        self.tally.digests.add(case.digest)
        changes = [event for event in reply.get("events", ()) if event.split()[0] in (*CHANGES, "open")]
        self.tally.code_run += len(changes) < len(reply.get("events", ())) or (self.root / "ran").exists()
        self.tally.harmed += bool(changed or changes)
        self.tally.most_mb = max(self.tally.most_mb, reply.get("added_mb", 0.0))
        self.tally.most_seconds = max(self.tally.most_seconds, reply.get("cpu", 0.0))
        problems = self._problems(case, reply, changed)
        assert not problems, f"{case}: {'; '.join(problems)}\n{reply.get('error', '')[-3000:]}"
        if reply["code"] == 0:
            self.tally.accepted += 1
        else:
            kind = KINDS[reply["code"]]
            self.tally.refused[kind] = self.tally.refused.get(kind, 0) + 1

    def _problems(self, case: Case, reply: dict[str, Any], changed: set[str]) -> list[str]:
        if "died" in reply:
            return [reply["died"]]
        problems = [f"guard: {event}" for event in reply["events"]]
        if (self.root / "ran").exists():
            problems.append("code of the file was run")
        if changed:
            problems.append(f"files changed: {', '.join(sorted(changed))}")
        if reply["code"] not in case.codes:
            problems.append(f"exit code {reply['code']}, right would be {case.codes}")
        elif reply["code"] and not reply["error"].strip():
            problems.append("no message")
        if "Traceback" in reply["error"] or reply["crash"]:
            problems.append(f"an error of no documented kind: {reply['crash']}")
        problems += [f"{' '.join(command)}: {what}" for command, what in reply["follow_ups"]]
        if reply["invalid"]:
            problems.append(f"accepted, but {reply['invalid']}")
        if reply["added_mb"] > MEMORY_MB:
            problems.append(f"{reply['added_mb']:.0f} MB")
        if reply["cpu"] > CPU_SECONDS:
            problems.append(f"{reply['cpu']:.0f} s of CPU time")
        return problems

    def _set_up(self, case: Case) -> None:
        for name in ("in", "out", "ran", "home/sources", "home/published"):
            path = self.root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        (self.root / "in").mkdir()
        for name, content in {OUT: PRECIOUS, **case.files}.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        if self._process is None:
            self._process = _start(self.root, self._plant)
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        line = _line_within(process, WALL_SECONDS)
        if line:
            return json.loads(line)
        hung = process.poll() is None
        self.close()
        return {"died": f"hung for {WALL_SECONDS:.0f} s" if hung else f"the process died: {process.returncode}"}


def _start(root: Path, plant: str) -> "subprocess.Popen[str]":
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{root / 'modules'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "DISTILL_BENCH_HOME": str(root / "home"),
        "DISTILL_BENCH_OFFLINE": "1",
        "TMPDIR": str(root / "tmp"),
        "OMP_NUM_THREADS": "1",
        "MPLCONFIGDIR": str(root / "home" / "matplotlib"),
        "TORCHINDUCTOR_CACHE_DIR": str(root / "home" / "inductor"),  # torch sets it in the parent
    }
    for name in ("modules", "home", "tmp"):
        (root / name).mkdir(exist_ok=True)
    mark = f"def mark(*a, **k):\n    open({str(root / 'ran')!r}, 'w').close()\nmark()\n"
    (root / "modules" / "hostile_canary.py").write_text(mark)
    command = [sys.executable, __file__, str(root), plant]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=root / "tmp"
    )


def _line_within(process: "subprocess.Popen[str]", seconds: float) -> str:
    import select

    ready, _, _ = select.select([process.stdout], [], [], seconds)
    return process.stdout.readline() if ready and process.stdout else ""


def _hashes(root: Path) -> dict[str, str]:
    """Of everything that is the user's: his other files, the files handed over, and the set made before."""
    files = [path for name in ("in", "user") for path in (root / name).rglob("*") if path.is_file()]
    files += [root / OUT] * (root / OUT).exists()
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# --- in the process


class Guard:
    """An audit hook: notes every process, connection, foreign unpickling, and change of files outside the sandbox."""

    def __init__(self, root: Path) -> None:
        self.armed = False
        self.events: list[str] = []
        self._allowed = tuple(str(root / name) + os.sep for name in ("out", "home", "tmp"))
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event in PROCESSES or event in NETWORK or event == "pickle.find_class":
            self.events.append(f"{event} {arguments!r:.200}")
        elif event == "open":
            path, mode, flags = arguments
            writes = any(c in (mode or "") for c in "wax+") or bool((flags or 0) & WRITING)
            if writes and not isinstance(path, int):
                self._changed(event, path)
        elif event in CHANGES:
            for path in arguments[1:2] if event in COPIES else arguments[: 2 if event == "os.rename" else 1]:
                self._changed(event, path)
        elif event == "import" and arguments[0] == "hostile_canary":
            self.events.append("import of the file's module")

    def _changed(self, event: str, path: Any) -> None:
        if isinstance(path, int):
            return
        where = os.path.abspath(os.fsdecode(path))
        if where != os.devnull and not (where + os.sep).startswith(self._allowed):
            self.events.append(f"{event} {where}")


def serve(root: Path, plant: str) -> None:
    """Answer orders until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    import torch
    import typer.main

    from distill_bench import cli
    from distill_bench.evaluation import PROTOCOLS
    from distill_bench.runtime.run_info import checkout_results, code_state

    torch.set_num_threads(1)
    short = PROTOCOLS["quick-v1"].model_copy(update={"epochs": 1, "networks": 1, "network": "ConvNetD1W4"})
    PROTOCOLS["quick-v1"] = short
    code_state()  # asks git once, and so does the next
    checkout_results()
    import kornia.enhance  # noqa: F401 (what is imported now counts for no case)
    import matplotlib.font_manager  # noqa: F401 (asks the system for its fonts once)
    import sklearn.datasets  # noqa: F401

    if plant:
        import plants

        getattr(plants, plant)()
    typer.main.get_command = functools.cache(typer.main.get_command)  # builds the same parser each time
    gc.collect()
    gc.freeze()
    guard = Guard(root)
    mapped = _status("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (mapped * 1024 + ADDRESS_SPACE,) * 2)
    for line in sys.stdin:
        order = json.loads(line)
        answers.write(json.dumps(_answer(order, root, guard, cli.main)) + "\n")
        answers.flush()


def _answer(order: dict[str, Any], root: Path, guard: Guard, main: Any) -> dict[str, Any]:
    _trim()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    resident, began = _status("VmRSS"), time.process_time()
    guard.events, guard.armed = [], True
    try:
        code, _, error, crash = _run(main, order["command"], root)
        follow_ups, invalid = [], None
        if code == 0 and order["makes_set"]:
            made = [path for path in sorted(root.glob("out/set*.safetensors")) if path.read_bytes() != PRECIOUS]
            invalid = next(filter(None, map(_fault_of, made)), None if made else "no set was written")
            for command in FOLLOW_UPS if made else ():
                done, _, said, fault = _run(main, command, root, made[0])
                if fault or done not in (0, 1, 2, 3) or "Traceback" in said:
                    follow_ups.append((command, fault or f"exit code {done}: {said[-500:]}"))
    finally:
        guard.armed = False
    return {
        "code": code,
        "error": error,
        "crash": crash,
        "events": guard.events,
        "follow_ups": follow_ups,
        "invalid": invalid,
        "cpu": time.process_time() - began,
        "added_mb": max(0, _status("VmHWM") - resident) / 1024,
    }


def _run(main: Any, command: Any, root: Path, out: Path | None = None) -> tuple[int, str, str, str]:
    sys.argv = ["distill-bench", *(part.format(root=root, out=out or root / OUT) for part in command)]
    # as standard streams are: what cannot be encoded is an error
    said, told = (
        io.TextIOWrapper(io.BytesIO(), "utf-8", errors=e, write_through=True) for e in ("strict", "backslashreplace")
    )
    code, crash = -1, ""
    with redirect_stdout(said), redirect_stderr(told):
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            crash = traceback.format_exc()
    texts = [stream.buffer.getvalue().decode("utf-8", "replace") for stream in (said, told)]
    return code, texts[0], texts[1], crash[-3000:]


def _fault_of(path: Path) -> str | None:
    """What is wrong with a set that was accepted, judged without the code that accepted it."""
    import torch
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        card = json.loads(file.metadata()["distill_bench"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    images, labels, classes = tensors["images"], tensors["labels"], len(card["class_names"])
    space = card["pixel_space"]
    soft = tensors.get("soft_labels")
    checks = {
        "images are not [n, c, h, w]": images.ndim == 4 and min(images.shape) > 0,
        "images are not finite": bool(images.float().isfinite().all()),
        "labels are not int64 [n]": labels.dtype == torch.int64 and labels.shape == images.shape[:1],
        "labels are out of range": bool((labels >= 0).all() and (labels < classes).all()),
        "ipc is below 1": card["ipc"] >= 1,
        "mean or std are wrong": len(space["mean"]) == len(space["std"]) == images.shape[1]
        and all(abs(value) < float("inf") for value in space["mean"])
        and all(0 < value < float("inf") for value in space["std"]),
        "the temperature is wrong": 0 < card["temperature"] < float("inf"),
        "soft labels are wrong": soft is None or (soft.shape == (len(images), classes) and bool(soft.isfinite().all())),
        "the learning rate is wrong": 0 < float(tensors.get("learning_rate", torch.tensor(1.0))) < float("inf"),
    }
    return next((fault for fault, right in checks.items() if not right), None)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(key + ":")))


def _trim() -> None:
    """Give freed memory back, which the command has the allocator keep: what a case adds is to be seen."""
    import ctypes

    if _status("VmRSS") > USUAL_MB * 1024:
        gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])
