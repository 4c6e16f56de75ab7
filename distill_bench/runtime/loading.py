"""torch loaded before all else, so that a limit it does not fit into is told in one line."""

import sys


def why_not(error: Exception) -> str:
    """Why torch cannot be loaded, and what to do."""
    limit = ""
    if sys.platform != "win32":
        import resource

        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        if soft != resource.RLIM_INFINITY:
            limit = f" A process may have {soft / 1e9:.1f} GB of addresses here; torch takes up to 4: raise ulimit -v."
    said = " ".join(str(error).split()) or type(error).__name__
    return f"torch cannot be loaded ({said}).{limit or ' Install it anew, or make room in memory.'}"


try:
    import torch  # noqa: F401
except (ImportError, MemoryError, OSError) as error:
    raise ImportError(why_not(error)) from error
