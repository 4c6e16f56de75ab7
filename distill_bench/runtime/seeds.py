"""Random generators derived from names, so that no consumer shares, or disturbs, another's stream.

A generator is a pure function of (root seed, role, index): a step that draws from ``generator(seed, "step", i)``
needs no saved random state to be resumed, and torch's global generator is never touched.
"""

import hashlib

import torch


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from the sha256 of the parts' text, equal on every machine.

    >>> derive_seed(0, "network", 1) == derive_seed(0, "network", 1)
    True
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: object) -> torch.Generator:
    """A CPU generator seeded by ``derive_seed(*parts)``. Numbers are drawn on the CPU and moved, on every device."""
    return torch.Generator().manual_seed(derive_seed(*parts))
