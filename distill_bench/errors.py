"""The errors of the package, each with the exit code the command returns for it."""

from pydantic import ValidationError


class DistillBenchError(Exception):
    """Base class of every error raised on purpose (exit code 1 unless said otherwise)."""

    exit_code = 1


class RunFailed(DistillBenchError):
    """A computation went wrong: a loss is no longer finite, training diverged (exit code 1)."""


class UsageError(DistillBenchError):
    """A request or a recipe is invalid: unknown name, wrong value, impossible combination (exit code 2)."""

    exit_code = 2


class DataError(DistillBenchError):
    """Data is missing, unreadable, or not what it claims to be (exit code 3)."""

    exit_code = 3


class Interrupted(DistillBenchError):
    """The run was asked to stop and did, after writing a checkpoint (exit code 130)."""

    exit_code = 130


OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
"""How the allocators of CPU, MPS and CUDA say it, where torch raises a plain RuntimeError."""

MEMORY_ADVICE = (
    "ran out of memory ({}). Lower a batch size (--set …), the images' --size or --ipc; of a suite, run fewer cells at "
    "a time (--jobs)."
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, the machine's or the device's, was not enough."""
    plain = isinstance(error, RuntimeError) and any(words in str(error).lower() for words in OUT_OF_MEMORY)
    return plain or isinstance(error, MemoryError)


def first_line(error: BaseException) -> str:
    """What an error says, without what allocators add; its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def reason_of(error: BaseException) -> str:
    """What an error says, on one line and without a full stop, to stand in a sentence; its type if it says nothing."""
    return " ".join(str(error).split())[:300].rstrip(".: ") or type(error).__name__


def describe(error: ValidationError) -> str:
    """A validation error in one line: every field with what is wrong about it."""
    problems = (f"{'.'.join(map(str, item['loc'])) or 'it'}: {item['msg']}" for item in error.errors())
    return "; ".join(problems)
