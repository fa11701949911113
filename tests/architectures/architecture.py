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


def weights(*shape, k=0.3):
    return nn.Parameter(torch.randn(*shape) * k)
