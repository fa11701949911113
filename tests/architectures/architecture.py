"""The list of small networks, one for each architecture, and how they are drawn. See architectures.py."""

import torch
from torch import nn

ALL = {}


def architecture(*shapes, tokens=None):
    """Enters a network with inputs of these shapes, without batch; `tokens` maps an input to its number of tokens."""

    def enter(network):
        ALL[network.__name__] = (network, shapes, tokens or {})
        return network

    return enter


def with_statistics(network):
    """The network with the statistics of normalisations such as training leaves."""
    with torch.no_grad():
        for name, value in network.named_buffers():
            if name.endswith("running_mean"):
                value.normal_(0, 0.1)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
    return network


def weights(*shape, k=0.3):
    return nn.Parameter(torch.randn(*shape) * k)
