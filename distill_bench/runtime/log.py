"""The package's one logger: in it names from outside do nothing, which is seen to here and not where it is used."""

import logging

from distill_bench.runtime.text import for_terminal

log = logging.getLogger("distill_bench")


def _in_one_line(record: logging.LogRecord) -> bool:
    """Names from outside do nothing in the log."""
    record.msg, record.args = for_terminal(record.getMessage()), None
    return True


log.addFilter(_in_one_line)
