"""Networks by the field's names."""

from distill_bench.networks.architectures import (
    ARCHITECTURES,
    activation_values,
    blank_network,
    build_network,
    check_network,
    check_own,
    check_trainable,
    is_named_by_us,
    is_ours,
    is_outside,
    resolve_network,
    usual_convnet,
)
from distill_bench.networks.convnet import ConvNet
from distill_bench.networks.initialise import initialise
from distill_bench.networks.library import is_library, library_note
from distill_bench.networks.network import Network, Observed, sharing_values
