"""Streams by name: stable for ever, apart from each other, and never torch's global one."""

import hashlib

import pytest
import torch

from distill_bench.runtime.seeds import derive_seed, generator


def draws(*parts: object) -> list[float]:
    return torch.rand(8, generator=generator(*parts)).tolist()


def test_the_same_name_gives_the_same_stream():
    assert draws(0, "network", 1) == draws(0, "network", 1)


@pytest.mark.parametrize("other", [(1, "network", 1), (0, "images", 1), (0, "network", 2), (0, "network")])
def test_another_root_role_or_index_gives_another_stream(other):
    assert not set(draws(0, "network", 1)) & set(draws(*other))


def test_parts_are_not_run_together():
    assert derive_seed(1, 23) != derive_seed(12, 3) and derive_seed("a", "bc") != derive_seed("ab", "c")


def test_a_seed_is_63_bits_of_sha256_of_the_parts_text():
    digest = hashlib.sha256(b"digits\x1fstandard-v1\x1f0\x1fweights").hexdigest()
    assert derive_seed("digits", "standard-v1", 0, "weights") == int(digest[:16], 16) // 2 < 2**63


def test_seeds_and_streams_never_change():
    # a change here would change every published number
    assert derive_seed(0, "network", 1) == 334223266105463152
    assert derive_seed("digits", "standard-v1", 0, "weights") == 5236227727012170363
    assert torch.randint(1000, (3,), generator=generator(0, "network", 1)).tolist() == [500, 332, 615]


@pytest.mark.usefixtures("global_rng_untouched")
def test_the_global_generator_is_left_alone():
    draws(0, "network", 1)


def test_the_global_seed_does_not_show():
    torch.manual_seed(1)
    first = draws(0, "network", 1)
    torch.manual_seed(2)
    assert draws(0, "network", 1) == first
