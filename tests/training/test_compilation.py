"""Compiled training: equal to eager, chosen by facts alone, and done without where there is no compiler."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from compiled_training import CASES

from distill_bench.errors import UsageError
from distill_bench.networks import build_network
from distill_bench.runtime.seeds import generator
from distill_bench.training import compilation

CPU = torch.device("cpu")
MUCH, LITTLE = compilation.PAYS_FLOPS, 0.99 * compilation.PAYS_FLOPS


@pytest.fixture
def compiler(monkeypatch):
    monkeypatch.setattr(compilation, "unavailable", lambda: None)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("choice", "device", "flops", "expected"),
    [
        ("auto", "cpu", MUCH, True),
        ("auto", "cpu", LITTLE, False),
        ("auto", "cuda", MUCH, False),
        ("on", "cpu", LITTLE, True),
        ("on", "cuda", LITTLE, True),
        ("off", "cpu", MUCH, False),
    ],
)
def test_auto_compiles_on_a_cpu_where_there_is_enough_to_do(choice, device, flops, expected):
    assert compilation.decide(choice, torch.device(device), flops) is expected


def test_an_unknown_choice_is_refused():
    with pytest.raises(UsageError, match="`compile='yes'`: give auto, on, off"):
        compilation.decide("yes", CPU, MUCH)


def test_without_a_compiler_nothing_is_compiled_and_one_line_says_so(monkeypatch, caplog):
    monkeypatch.setenv("CXX", "no-such-compiler")
    compilation._say_once.cache_clear()
    assert [compilation.decide(choice, CPU, MUCH) for choice in ("auto", "on", "auto", "off")] == [False] * 4
    assert [record.getMessage() for record in caplog.records] == [
        "not compiled, which takes a little longer: there is no C++ compiler no-such-compiler; "
        "install one, or name it in $CXX."
    ]


def test_what_would_not_be_compiled_needs_no_compiler(monkeypatch, caplog):
    monkeypatch.setenv("CXX", "no-such-compiler")
    compilation._say_once.cache_clear()
    assert not compilation.decide("auto", CPU, LITTLE)
    assert caplog.records == []


def test_work_goes_on_as_it_was_begun(monkeypatch):
    monkeypatch.setattr(compilation, "unavailable", lambda: None)
    assert (compilation.resume_mode(True), compilation.resume_mode(False)) == (True, False)
    monkeypatch.setattr(compilation, "unavailable", lambda: "there is no compiler.")
    assert not compilation.resume_mode(False)
    with pytest.raises(UsageError, match=r"begun compiled .* there is no compiler\."):
        compilation.resume_mode(True)


def test_operations_of_a_network_are_those_of_its_products():
    # 2·(out·in·9·side²) for each convolution, 2·(in·out) for the classifier
    by_hand = 2 * (4 * 3 * 9 * 16**2 + 4 * 4 * 9 * 8**2 + 4 * 4 * 4 * 10)
    network = build_network("ConvNetD2W4", (3, 16, 16), 10, generator("weights")).train()
    assert compilation.flops_of(network, (3, 16, 16)) == by_hand
    assert network.training
    assert compilation.training_flops(network, (3, 16, 16), trained=5, tested=7) == (3 * 5 + 7) * by_hand


@pytest.mark.parametrize("norm", ["IN", "GN", "BN", "LN", "NN"])
def test_written_out_norms_are_the_librarys_and_share_its_parameters(norm):
    network = build_network(f"ConvNetD2W8{norm}", (2, 8, 8), 3, generator("weights")).double()
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator("more", number)))
    twin = compilation._decompose_group_norm(network)
    assert [*map(id, twin.parameters())] == [*map(id, network.parameters())]
    assert [*map(id, twin.buffers())] == [*map(id, network.buffers())]
    images = 1 + 2 * torch.randn(5, 2, 8, 8, generator=generator("images"), dtype=torch.float64)
    gradients = []
    for network_ in (network.eval(), twin.eval()):
        loss = compilation.cross_entropy(network_, images, torch.arange(5) % 3, 2.0)
        gradients.append(torch.autograd.grad(loss, list(network.parameters())))
    for own, other in zip(*gradients, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-12)


# ---- compiling itself takes a minute or two


@pytest.fixture(scope="module")
def found():
    """What a process without run-time checks of shapes made of compiled and eager training."""
    script = Path(__file__).parents[1] / "shared" / "compiled_training.py"
    command = [sys.executable, "-W", "ignore", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | CHILD)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


CHILD = {"PYTHONPATH": os.pathsep.join([str(Path(compilation.__file__).parents[2]), *sys.path])}
needs_compiler = pytest.mark.skipif(compilation.unavailable() is not None, reason="nothing can be compiled here")


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-9)])
@pytest.mark.parametrize("case", CASES)
def test_ten_compiled_steps_are_ten_eager_ones(found, case, dtype, tolerance):
    steps = found[f"{case}, {dtype}"]
    assert steps["error"] < tolerance
    assert steps["error_of_change"] < 30 * tolerance
    assert steps["losses"][1] == pytest.approx(steps["losses"][0], rel=max(tolerance, 1e-6))  # summed in float32
    assert steps["accuracies"][0] == steps["accuracies"][1]


@pytest.mark.slow
@needs_compiler
def test_every_network_of_a_shape_uses_one_compilation_and_remainders_are_compiled_where_they_come_up_often(found):
    assert found["compilations"]["counts"] == [2, 2, 3]
    assert found["compilations"]["error"] < 1e-8


class Twice(torch.nn.GroupNorm):
    def forward(self, images):
        return 2 * super().forward(images)


@pytest.mark.parametrize(("norm", "shape"), [(Twice(2, 4), (3, 4, 5, 5)), (torch.nn.GroupNorm(2, 4), (3, 4, 7)),
                                             (torch.nn.GroupNorm(4, 4), (3, 4))])  # fmt: skip
def test_norms_that_do_more_or_see_other_tensors_stay_what_they_are(norm, shape):
    """A subclass keeps its forward; the library's own takes tensors of two dimensions and more."""
    network, images = torch.nn.Sequential(norm), torch.randn(shape, generator=generator("of any shape"))
    torch.testing.assert_close(compilation._decompose_group_norm(network)(images), network(images))
