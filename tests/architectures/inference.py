"""Probabilities, dynamic programmes and series: see architectures.py."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from architecture import architecture, weights


@architecture((8, 5))
class CRFViterbi(nn.Module):
    """Conditional random field: the best path, unrolled, traced back."""

    def __init__(self):
        super().__init__()
        self.e, self.t = nn.Linear(5, 4), weights(4, 4)

    def forward(self, x):
        e = self.e(x) * 3
        score, back = e[:, 0], []
        for k in range(1, 8):
            score, i = (score.unsqueeze(2) + self.t).max(1)
            score = score + e[:, k]
            back.append(i)
        best = score.argmax(1, keepdim=True)
        path = [best]
        for i in reversed(back):
            path.append(torch.gather(i, 1, path[-1]))
        return score, F.one_hot(torch.cat(path[::-1], 1), 4).float().sum(1)


@architecture((8, 5))
class HMMForward(nn.Module):
    """Forward algorithm in logarithms."""

    def __init__(self):
        super().__init__()
        self.e = nn.Linear(5, 4)
        self.t = weights(4, 4, k=1)

    def forward(self, x):
        e, t = F.log_softmax(self.e(x), -1), F.log_softmax(self.t, 1)
        a = e[:, 0]
        for k in range(1, 8):
            a = torch.logsumexp(a.unsqueeze(2) + t, 1) + e[:, k]
        return torch.logsumexp(a, 1, keepdim=True), F.softmax(a, 1)


@architecture((5, 4), (5, 4))
class SinkhornMatching(nn.Module):
    """Optimal transport between two sets, in logarithms."""

    def __init__(self):
        super().__init__()
        self.l = nn.Linear(4, 6)
        self.bin = nn.Parameter(torch.tensor(0.3))

    def forward(self, a, b):
        s = self.l(a) @ self.l(b).transpose(1, 2)
        s = torch.cat([torch.cat([s, self.bin.expand(s.shape[0], 5, 1)], 2), self.bin.expand(s.shape[0], 1, 6)], 1)
        u = torch.zeros(s.shape[0], 6)
        v = torch.zeros(s.shape[0], 6)
        for _ in range(5):
            u = -torch.logsumexp(s + v.unsqueeze(1), 2)
            v = -torch.logsumexp(s + u.unsqueeze(2), 1)
        return (s + u.unsqueeze(2) + v.unsqueeze(1)).exp()


@architecture((20, 6))
class CTCGreedy(nn.Module):
    """Recurrent network, best symbol of each frame without repeats and blanks."""

    def __init__(self):
        super().__init__()
        self.g, self.l = nn.GRU(6, 10, batch_first=True, bidirectional=True), nn.Linear(20, 5)

    def forward(self, x):
        y = self.l(self.g(x)[0])
        best = y.argmax(-1)
        new = torch.cat([torch.ones_like(best[:, :1], dtype=torch.bool), best[:, 1:] != best[:, :-1]], 1)
        return F.log_softmax(y, -1), (new & (best != 0)).float().sum(1, keepdim=True)


@architecture((6,))
class RealNVPDensity(nn.Module):
    """Coupling layers with their logarithm of the determinant."""

    def __init__(self):
        super().__init__()
        self.s = nn.ModuleList([nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 6), nn.Tanh()) for _ in range(2)])
        self.t = nn.ModuleList([nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 6)) for _ in range(2)])
        self.register_buffer("m", torch.tensor([[1.0, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1]]))

    def forward(self, x):
        det = x.new_zeros(x.shape[0])
        for m, s, t in zip(self.m, self.s, self.t):
            k = s(x * m) * (1 - m)
            x = x * m + (1 - m) * (x * torch.exp(k) + t(x * m))
            det = det + k.sum(1)
        return x, -0.5 * (x**2 + math.log(2 * math.pi)).sum(1) + det


@architecture((6, 2))
class VolumeRendering(nn.Module):
    """Colours along a ray: encoded positions, exclusive products through sums of logarithms."""

    def __init__(self):
        super().__init__()
        self.l = nn.Sequential(nn.Linear(18, 24), nn.ReLU(), nn.Linear(24, 4))

    def forward(self, x):
        e = [x]
        for k in range(4):
            e += [torch.sin(2.0**k * x), torch.cos(2.0**k * x)]
        y = self.l(torch.cat(e, -1))
        density, colour = F.softplus(y[..., 0]), torch.sigmoid(y[..., 1:])
        t = torch.exp(-torch.cumsum(F.pad(density, (1, 0))[:, :-1], 1))
        w = t * (1 - torch.exp(-density))
        return (w.unsqueeze(-1) * colour).sum(1), w.sum(1, keepdim=True)


@architecture((6,))
class DeepKernelGP(nn.Module):
    """Gaussian process on features: mean and variance."""

    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))
        z = torch.randn(8, 3) * 0.5
        k = torch.exp(-0.5 * torch.cdist(z, z) ** 2) + 0.1 * torch.eye(8)
        self.register_buffer("z", z)
        self.register_buffer("inv", torch.inverse(k))
        self.a = weights(8, 1, k=1)

    def forward(self, x):
        k = torch.exp(-0.5 * ((self.f(x).unsqueeze(1) - self.z) ** 2).sum(-1))
        return k @ self.a, (1.1 - ((k @ self.inv) * k).sum(1, keepdim=True)).clamp(min=1e-3)


@architecture((7,))
class QuantileProbit(nn.Module):
    """Quantiles that cannot cross, a normal distribution's probability."""

    def __init__(self):
        super().__init__()
        self.l = nn.Linear(7, 6)

    def forward(self, x):
        y = self.l(x)
        q = y[:, :1] + torch.cumsum(torch.cat([torch.zeros_like(y[:, :1]), F.softplus(y[:, 1:5])], 1), 1)
        return q, 0.5 * (1 + torch.erf(y[:, 5:] / math.sqrt(2)))


@architecture((24, 4))
class NBeatsSeries(nn.Module):
    """Doubly residual blocks with a basis of polynomials and sines, reversible normalisation."""

    def __init__(self):
        super().__init__()
        t = torch.arange(32.0) / 32
        self.register_buffer("p", torch.stack([t**k for k in range(3)]))
        self.register_buffer("s", torch.cat([torch.stack([torch.sin(6.28 * k * t), torch.cos(6.28 * k * t)]) for k in (1, 2)]))
        self.a = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 3))
        self.b = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, x):
        x = x.transpose(1, 2)
        mean, std = x.mean(-1, keepdim=True), torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5)
        x = (x - mean) / std
        y = self.a(x) @ self.p
        x, out = x - y[..., :24], y[..., 24:]
        y = self.b(x) @ self.s
        return ((out + y[..., 24:]) * std + mean).transpose(1, 2)


@architecture((16, 8))
class TransformerXLShift(nn.Module):
    """Attention with relative positions by the shift of padded scores."""

    def __init__(self):
        super().__init__()
        self.q, self.r = nn.Linear(8, 24), weights(16, 8, k=1)
        self.u, self.v = weights(8), weights(8)

    def forward(self, x):
        q, k, v = self.q(x).chunk(3, -1)
        ac = (q + self.u) @ k.transpose(1, 2)
        bd = (q + self.v) @ self.r.t()
        bd = F.pad(bd, (1, 0)).view(-1, 17, 16)[:, 1:].reshape(-1, 16, 16)
        a = (ac + bd) / 8**0.5
        a = a.masked_fill(torch.triu(torch.ones(16, 16, dtype=torch.bool), 1), float("-inf"))
        return F.softmax(a, -1) @ v


@architecture((12, 8))
class ALiBiDecoder(nn.Module):
    """Causal attention with linear biases, parallel block, multi-query."""

    def __init__(self):
        super().__init__()
        self.n, self.q, self.kv, self.o = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.g, self.d = nn.Linear(8, 32), nn.Linear(16, 8)
        slope = torch.tensor([0.25, 0.0625]).view(2, 1, 1)
        d = torch.arange(12)[None, :] - torch.arange(12)[:, None]
        self.register_buffer("b", torch.where(d > 0, torch.tensor(torch.finfo(torch.float32).min), slope * d))

    def forward(self, x):
        h = self.n(x)
        q = self.q(h).view(-1, 12, 2, 4).transpose(1, 2)
        k, v = self.kv(h).unsqueeze(1).chunk(2, -1)
        a = F.softmax(torch.matmul(q, k.transpose(2, 3)) * 0.5 + self.b, -1) @ v
        u, g = self.g(h).chunk(2, -1)
        return x + self.o(a.transpose(1, 2).flatten(2)) + self.d(u * F.gelu(g))


@architecture((16, 6))
class GatedMLPToeplitz(nn.Module):
    """gMLP's spatial gate, and a long convolution as a Toeplitz matrix (Hyena)."""

    def __init__(self):
        super().__init__()
        self.u, self.n, self.s, self.o = nn.Linear(6, 24), nn.LayerNorm(12), nn.Conv1d(16, 16, 1), nn.Linear(12, 6)
        self.f = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 6))
        self.c = nn.Conv1d(6, 18, 3, padding=2, groups=6)

    def forward(self, x):
        a, b = F.gelu(self.u(x)).chunk(2, -1)
        x = x + self.o(a * (self.s(self.n(b)) + 1))
        q, k, v = self.c(x.transpose(1, 2))[..., :16].chunk(3, 1)
        t = torch.arange(16.0)[:, None] / 16
        h = self.f(torch.cat([t, torch.sin(6 * t), torch.cos(6 * t)], 1)) * torch.exp(-3 * t)
        i = torch.arange(16)[:, None] - torch.arange(16)[None, :]
        m = torch.where((i >= 0).unsqueeze(-1), h[i.clamp(min=0)], torch.zeros(1))
        return q * torch.einsum("tsc,bcs->bct", m, k * v)


@architecture((24,), (2,))
class DeepONetBranchTrunk(nn.Module):
    """Operator network: branch on the function, trunk on the place."""

    def __init__(self):
        super().__init__()
        self.b = nn.Sequential(nn.Linear(24, 20), nn.Tanh(), nn.Linear(20, 12))
        self.t = nn.Sequential(nn.Linear(2, 20), nn.SiLU(), nn.Linear(20, 12), nn.Tanh())
        self.c = weights(1)

    def forward(self, u, y):
        return torch.einsum("bi,bi->b", self.b(u), self.t(y)) + self.c


@architecture((160,))
class ConvTasNetMask(nn.Module):
    """Separation: encoder, global layer normalisation, masks, overlap and add."""

    def __init__(self):
        super().__init__()
        self.e = nn.Conv1d(1, 12, 16, 8, bias=False)
        self.n, self.a, self.p = nn.GroupNorm(1, 12, eps=1e-8), nn.Conv1d(12, 12, 1), nn.PReLU()
        self.d, self.m = nn.Conv1d(12, 12, 3, padding=4, dilation=4, groups=12), nn.Conv1d(12, 24, 1)
        self.o = nn.ConvTranspose1d(12, 1, 16, 8, bias=False)

    def forward(self, x):
        h = F.relu(self.e(x.unsqueeze(1)))
        m = torch.sigmoid(self.m(self.d(self.p(self.a(self.n(h)))))).view(-1, 2, 12, h.shape[-1])
        return self.o((m * h.unsqueeze(1)).flatten(0, 1)).view(-1, 2, 160)


@architecture((30, 5))
class AttentiveStatisticsPooling(nn.Module):
    """Speaker embedding: delays, channel gates, weighted mean and deviation."""

    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Conv1d(5, 12, 5, padding=2), nn.ReLU(), nn.BatchNorm1d(12))
        self.r = nn.ModuleList([nn.Conv1d(4, 4, 3, padding=2, dilation=2) for _ in range(2)])
        self.w = nn.Sequential(nn.Conv1d(36, 6, 1), nn.Tanh(), nn.Conv1d(6, 12, 1))
        self.l = nn.Linear(24, 6)

    def forward(self, x):
        h = self.a(x.transpose(1, 2))
        s = h.split(4, 1)
        y = [s[0]]
        for c, p in zip(self.r, s[1:]):
            y.append(F.relu(c(p + y[-1])))
        h = torch.cat(y, 1)
        m, d = h.mean(2, keepdim=True), torch.sqrt(h.var(2, keepdim=True).clamp(1e-4))
        w = F.softmax(self.w(torch.cat([h, m.expand(-1, -1, 30), d.expand(-1, -1, 30)], 1)), 2)
        mu = (w * h).sum(2)
        return F.normalize(self.l(torch.cat([mu, torch.sqrt(((h**2 * w).sum(2) - mu**2).clamp(1e-4))], 1)))


@architecture((9,), tokens={0: 30})
class CharHighwayCNN(nn.Module):
    """Characters: embeddings, convolutions of several widths, highways."""

    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(30, 6, padding_idx=0)
        self.c = nn.ModuleList([nn.Conv1d(6, 8, k) for k in (2, 3, 4)])
        self.t, self.h = nn.Linear(24, 24), nn.Linear(24, 24)

    def forward(self, i):
        x = self.e(i).transpose(1, 2)
        y = torch.cat([torch.max(torch.tanh(c(x)), -1)[0] for c in self.c], 1)
        t = torch.sigmoid(self.t(y) - 1)
        return torch.add(t * F.relu(self.h(y)), (1 - t) * y)


@architecture((6, 4), (5, 4))
class BiDAFAttention(nn.Module):
    """Attention in both directions with a trilinear similarity."""

    def __init__(self):
        super().__init__()
        self.w = nn.Linear(12, 1, bias=False)

    def forward(self, c, q):
        x = c.unsqueeze(2).expand(-1, -1, 5, -1)
        y = q.unsqueeze(1).expand(-1, 6, -1, -1)
        s = self.w(torch.cat([x, y, x * y], -1)).squeeze(-1)
        a = torch.bmm(F.softmax(s, 2), q)
        b = torch.bmm(F.softmax(s.max(2)[0], 1).unsqueeze(1), c).repeat(1, 6, 1)
        return torch.cat([c, a, c * a, c * b], -1)


@architecture((6, 4), (6,), tokens={1: 3})
class BoshNASHeterogeneousHeads(nn.Module):
    """Encoder whose heads differ: weighted product, DCT, convolution; segments as tokens."""

    def __init__(self):
        super().__init__()
        self.s = nn.Embedding(3, 4)
        self.q = nn.Linear(4, 12)
        self.w = weights(4, 4)
        n = torch.arange(6.0)
        self.register_buffer("dct", torch.cos(math.pi / 6 * (n[None] + 0.5) * n[:, None]) / 6**0.5)
        self.c = nn.Conv1d(4, 4, 3, padding=1)
        self.o = nn.Linear(12, 4)
        self.n = nn.LayerNorm(4)

    def forward(self, x, i):
        x = x + self.s(i)
        q, k, v = self.q(x).split(4, -1)
        a = F.softmax(q @ self.w @ k.transpose(1, 2) / 2, -1) @ v
        b = torch.einsum("ts,bsc->btc", self.dct, x)
        c = self.c(x.transpose(-1, -2)).transpose(-1, -2)
        return self.n(x + self.o(torch.cat([a, b, c], -1)))
