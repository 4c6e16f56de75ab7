"""The trajectory-matching loss and its gradients by autograd through ``higher``'s differentiable SGD: an oracle.

Shares no code with the package: modules keep their parameters, ``higher`` patches them. Its memory grows with the
number of steps.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.nn.utils import parameters_to_vector, vector_to_parameters

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import higher

Batch = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def unrolled_gradient(
    network: nn.Module,
    start: Tensor,
    target: Tensor,
    images: Tensor,
    labels: Tensor,
    learning_rate: Tensor,
    batches: Sequence[Batch],
    temperature: float = 1.0,
) -> tuple[Tensor, list[Tensor]]:
    """‖θ_N − θ*‖² / ‖θ_0 − θ*‖², and its gradients for images, labels (where they are logits) and learning rate.

    Args:
        start, target: θ_0 and θ* as flat vectors [p].
        images, labels: [n, c, h, w], and classes [n] or logits [n, k].
        batches: for every step, from all images and labels to its augmented mini-batch.
    """
    given = (images, labels, learning_rate)
    leaves = [tensor.clone().requires_grad_() for tensor in given if tensor.is_floating_point()]
    soft = labels.is_floating_point()
    x, y, rate = leaves[0], leaves[1] if soft else labels, leaves[-1]
    vector_to_parameters(start.clone(), network.parameters())
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    with higher.innerloop_ctx(network, optimizer, override={"lr": [rate]}) as (student, steps):
        for batch in batches:
            inputs, classes = batch(x, y)
            logarithms = (student(inputs) / temperature).log_softmax(dim=1)
            wanted = (classes / temperature).softmax(dim=1) if soft else one_hot(classes, logarithms.shape[1])
            steps.step(-(wanted * logarithms).sum(dim=1).mean())
        end = parameters_to_vector(student.parameters())
        loss = (end - target).square().sum() / (start - target).square().sum()
        return loss.detach(), list(torch.autograd.grad(loss, leaves))
