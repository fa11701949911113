"""Layers of functions, graphs, uncertainty, trees and few bits: see architectures.py."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from architecture import architecture, weights


@architecture((6, 8))
class CapsuleRouting(nn.Module):
    """Capsules, three rounds of routing by agreement."""

    def __init__(self):
        super().__init__()
        self.w = weights(6, 3, 8, 5)

    def forward(self, x):
        u = torch.einsum("bid,ijde->bije", x, self.w)
        b = torch.zeros(x.shape[0], 6, 3)
        for r in range(3):
            c = torch.softmax(b, -1)
            v = (c.unsqueeze(-1) * u).sum(1)
            n = (v * v).sum(-1, keepdim=True)
            v = v * n / (1 + n) / torch.sqrt(n + 1e-08)
            if r < 2:
                b = b + (u * v.unsqueeze(1)).sum(-1)
        return v.norm(dim=-1)


@architecture((8, 6), (8, 8))
class GATLayer(nn.Module):
    """Graph attention with a masked adjacency."""

    def __init__(self):
        super().__init__()
        self.w = nn.Linear(6, 12, bias=False)
        self.a = weights(3, 4)
        self.b = weights(3, 4)

    def forward(self, x, adj):
        h = self.w(x).view(-1, 8, 3, 4)
        l = (h * self.a).sum(-1)
        r = (h * self.b).sum(-1)
        e = F.leaky_relu(l.unsqueeze(2) + r.unsqueeze(1), 0.2)
        m = (adj > 0).unsqueeze(-1)
        e = e.masked_fill(~m, -1000000000.0)
        a = torch.softmax(e, 2)
        return F.elu(torch.einsum("bijh,bjhd->bihd", a, h).flatten(2))


@architecture((8, 6))
class EdgeConvKNN(nn.Module):
    """Edge convolution over the nearest neighbours."""

    def __init__(self):
        super().__init__()
        self.m = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8))

    def forward(self, x):
        d = -((x.unsqueeze(2) - x.unsqueeze(1)) ** 2).sum(-1)
        i = d.topk(4, -1)[1]
        xn = torch.gather(x.unsqueeze(1).expand(-1, 8, -1, -1), 2, i.unsqueeze(-1).expand(-1, -1, -1, 6))
        xi = x.unsqueeze(2).expand(-1, -1, 4, -1)
        return self.m(torch.cat([xi, xn - xi], -1)).max(2)[0]


@architecture((6,))
class KANRadial(nn.Module):
    """Kolmogorov-Arnold layer of radial functions."""

    def __init__(self):
        super().__init__()
        self.register_buffer("g", torch.linspace(-2, 2, 8))
        self.w = weights(10, 6 * 8)
        self.b = nn.Linear(6, 10)
        self.w2 = weights(3, 80)

    def forward(self, x):
        f = lambda x: torch.exp(-(((x.unsqueeze(-1) - self.g) / 0.57) ** 2)).flatten(1)
        h = f(x) @ self.w.t() + self.b(F.silu(x))
        return f(torch.tanh(h)) @ self.w2.t()


@architecture((6,))
class KANFourier(nn.Module):
    """Kolmogorov-Arnold layer of Fourier terms."""

    def __init__(self):
        super().__init__()
        self.register_buffer("k", torch.arange(1, 5.0))
        self.w = weights(2, 5, 6, 4)

    def forward(self, x):
        a = x.unsqueeze(-1) * self.k
        return torch.einsum("bik,oik->bo", torch.cos(a), self.w[0]) + torch.einsum("bik,oik->bo", torch.sin(a), self.w[1])


@architecture((6,))
class KANWavelet(nn.Module):
    """Kolmogorov-Arnold layer of wavelets."""

    def __init__(self):
        super().__init__()
        self.t = weights(5, 6)
        self.sc = nn.Parameter(1 + torch.randn(5, 6) * 0.1)
        self.w = weights(5, 6)

    def forward(self, x):
        z = (x.unsqueeze(1) - self.t) / self.sc
        return (self.w * (2 / (3**0.5 * torch.pi**0.25)) * (1 - z**2) * torch.exp(-(z**2) / 2)).sum(-1)


@architecture((6,))
class KANChebyshev(nn.Module):
    """Kolmogorov-Arnold layer of Chebyshev polynomials."""

    def __init__(self):
        super().__init__()
        self.c = weights(6, 5, 5)

    def forward(self, x):
        x = torch.tanh(x)
        x = torch.cos(torch.acos(x.clamp(-0.999, 0.999)).unsqueeze(-1) * torch.arange(5.0))
        return torch.einsum("bid,iod->bo", x, self.c)


@architecture((6,))
class KANJacobiRecursive(nn.Module):
    """Kolmogorov-Arnold layer of Legendre polynomials by recursion."""

    def __init__(self):
        super().__init__()
        self.c = weights(6, 5, 4)

    def forward(self, x):
        x = torch.tanh(x)
        p = [torch.ones_like(x), x]
        for n in range(2, 4):
            p.append((2 * n - 1) / n * x * p[-1] - (n - 1) / n * p[-2])
        return torch.einsum("bid,iod->bo", torch.stack(p, -1), self.c)


@architecture((6,))
class KANBSplineGrid(nn.Module):
    """Kolmogorov-Arnold layer of B-splines."""

    def __init__(self):
        super().__init__()
        self.register_buffer("g", torch.arange(-3, 9) * 0.4 - 1.0)
        self.w = weights(4, 6, 8)
        self.b = weights(4, 6)

    def forward(self, x):
        g = self.g
        x = torch.tanh(x)
        xe = x.unsqueeze(-1)
        b = ((xe >= g[:-1]) & (xe < g[1:])).to(x.dtype)
        for k in range(1, 4):
            b = (xe - g[: -(k + 1)]) / (g[k:-1] - g[: -(k + 1)]) * b[..., :-1] + (g[k + 1 :] - xe) / (g[k + 1 :] - g[1:-k]) * b[
                ..., 1:
            ]
        return F.linear(F.silu(x), self.b) + torch.einsum("bik,oik->bo", b, self.w)


@architecture((8,))
class NeuralODERK4(nn.Module):
    """ODE steps by Runge-Kutta."""

    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8))

    def forward(self, x):
        for _ in range(3):
            a = self.f(x)
            b = self.f(x + 0.1 * a)
            c = self.f(x + 0.1 * b)
            d = self.f(x + 0.2 * c)
            x = x + 0.2 / 6 * (a + 2 * b + 2 * c + d)
        return x


@architecture((8,))
class DeepEquilibriumHyper(nn.Module):
    """Fixed-point layer, iterated."""

    def __init__(self):
        super().__init__()
        self.w = weights(8, 8, k=0.15)
        self.u = nn.Linear(8, 8)
        self.n = nn.LayerNorm(8)

    def forward(self, x):
        z = torch.zeros_like(x)
        u = self.u(x)
        for _ in range(6):
            z = self.n(torch.tanh(z @ self.w + u))
        return z


@architecture((16,))
class FourierNeuralOperator(nn.Module):
    """Spectral convolution."""

    def __init__(self):
        super().__init__()
        n = torch.arange(16.0)
        k = torch.arange(5.0)[:, None]
        self.register_buffer("C", torch.cos(2 * torch.pi * k * n / 16))
        self.register_buffer("S", -torch.sin(2 * torch.pi * k * n / 16))
        self.l = nn.Linear(1, 4)
        self.r = weights(4, 4, 5)
        self.i = weights(4, 4, 5)
        self.w = nn.Conv1d(4, 4, 1)
        self.o = nn.Linear(4, 1)

    def forward(self, x):
        h = self.l(x.unsqueeze(-1)).transpose(1, 2)
        re, im = (h @ self.C.t(), h @ self.S.t())
        a = torch.einsum("bik,iok->bok", re, self.r) - torch.einsum("bik,iok->bok", im, self.i)
        b = torch.einsum("bik,iok->bok", re, self.i) + torch.einsum("bik,iok->bok", im, self.r)
        y = (a @ self.C + b @ self.S) / 16
        return self.o(F.gelu(y + self.w(h)).transpose(1, 2)).squeeze(-1)


@architecture((12, 4))
class UncertaintyGateEntropy(nn.Module):
    """Early exit by the entropy of the first stage, as a gate."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(48, 10)
        self.b = nn.Linear(48, 10)

    def forward(self, x):
        x = x.flatten(1)
        p = torch.softmax(self.a(x), -1)
        h = -(p * torch.log(p + 1e-09)).sum(-1, keepdim=True) / math.log(10)
        g = (h > 0.8).float()
        return (p * (1 - g) + torch.softmax(self.b(x), -1) * g, h)


@architecture((12, 4))
class MCDropEnsembleVar(nn.Module):
    """Mean and variance of an ensemble."""

    def __init__(self):
        super().__init__()
        self.w = weights(5, 48, 3)

    def forward(self, x):
        y = torch.einsum("bi,eio->beo", x.flatten(1), self.w)
        return (y.mean(1), y.var(1), torch.sqrt(y.var(1, unbiased=False) + 1e-06))


@architecture((12, 4))
class EvidentialHead(nn.Module):
    """Evidence of a Dirichlet distribution."""

    def __init__(self):
        super().__init__()
        self.l = nn.Linear(48, 5)

    def forward(self, x):
        a = F.softplus(self.l(x.flatten(1))) + 1
        S = a.sum(-1, keepdim=True)
        return (a / S, 5 / S)


@architecture((12, 4))
class MixtureDensity(nn.Module):
    """Mixture density head."""

    def __init__(self):
        super().__init__()
        self.l = nn.Linear(48, 9)

    def forward(self, x):
        a, m, v = self.l(x.flatten(1)).chunk(3, -1)
        return (F.softmax(a, -1), m, torch.exp(v.clamp(-3, 3)), torch.logsumexp(a - m**2, -1, keepdim=True))


@architecture((8,))
class SetTransformerPMA_EM(nn.Module):
    """Sorted set of projections."""

    def __init__(self):
        super().__init__()
        self.l = nn.ModuleList([nn.Linear(8, 8) for _ in range(3)])
        self.t = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        ys = torch.stack([l(x) for l in self.l], 1)
        srt, _ = torch.sort(ys, 1)
        return (srt.flatten(1), ys.min(1)[0])


@architecture((9, 5))
class GraphTransformerLaplacian(nn.Module):
    """Chebyshev graph convolution of a learned graph, top-k pooling."""

    def __init__(self):
        super().__init__()
        self.w = nn.Linear(5, 5)
        self.a = nn.Linear(5, 1)

    def forward(self, x):
        A = torch.sigmoid(x @ x.transpose(1, 2))
        D = A.sum(-1)
        L = D.unsqueeze(-1) * torch.eye(9) - A
        Dn = D.clamp(min=1e-06).rsqrt()
        L = Dn.unsqueeze(-1) * L * Dn.unsqueeze(-2)
        T = [x, L @ x]
        T.append(2 * L @ T[-1] - T[-2])
        h = F.relu(self.w(sum(T)))
        i = self.a(h).squeeze(-1).topk(4)[1]
        return torch.gather(h, 1, i.unsqueeze(-1).expand(-1, -1, 5)) * torch.tanh(torch.gather(self.a(h), 1, i.unsqueeze(-1)))


@architecture((9, 5), (2, 9))
class ScatterMessagePassing(nn.Module):
    """Messages along edges, added by scatter."""

    def __init__(self):
        super().__init__()
        self.w = nn.Linear(10, 5)
        self.register_buffer("src", torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 2]))
        self.register_buffer("dst", torch.tensor([1, 2, 3, 4, 5, 6, 7, 8, 0, 4, 6]))

    def forward(self, x, e):
        m = F.relu(self.w(torch.cat([x[:, self.src], x[:, self.dst]], -1)))
        out = torch.zeros_like(x).scatter_add(1, self.dst.view(1, -1, 1).expand(x.shape[0], -1, 5), m)
        return out + x + e.mean((1, 2), keepdim=True)


@architecture((14,))
class SoftDecisionTree(nn.Module):
    """Soft decision tree."""

    def __init__(self):
        super().__init__()
        self.l = nn.Linear(14, 7)
        self.v = weights(8, 3, k=1)

    def forward(self, x):
        d = torch.sigmoid(self.l(x))
        p = torch.ones(x.shape[0], 1)
        k = 0
        for lev in range(3):
            n = 2**lev
            q = d[:, k : k + n]
            k += n
            p = torch.stack([p * q, p * (1 - q)], -1).flatten(1)
        return p @ self.v


@architecture((14,))
class ObliviousTreesEntmax(nn.Module):
    """Oblivious trees with products of choices."""

    def __init__(self):
        super().__init__()
        self.f = weights(6, 14, k=1)
        self.t = weights(6)
        self.v = weights(64, 2, k=1)
        self.register_buffer("b", torch.tensor([[i >> k & 1 for k in range(6)] for i in range(64)]).float())

    def forward(self, x):
        z = x @ torch.softmax(self.f, -1).t() - self.t
        h = torch.clamp(0.5 * z + 0.5, 0, 1).unsqueeze(1)
        return torch.prod(h * self.b + (1 - h) * (1 - self.b), -1) @ self.v


@architecture((16,))
class Sparsemax(nn.Module):
    """Sparsemax through sorting."""

    def __init__(self):
        super().__init__()
        self.l = nn.Linear(16, 8)

    def forward(self, x):
        z = self.l(x) * 2
        zs, _ = torch.sort(z, 1, descending=True)
        c = zs.cumsum(1) - 1
        k = torch.arange(1, 9.0)
        sup = (k * zs > c).float().sum(1, keepdim=True)
        tau = torch.gather(c, 1, (sup - 1).long()) / sup
        return F.relu(z - tau)


@architecture((16,))
class BinaryNetXNOR(nn.Module):
    """Binary weights and activations."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(16, 32)
        self.w = weights(8, 32, k=1)
        self.sc = weights(8)

    def forward(self, x):
        h = torch.sign(self.a(x))
        w = torch.sign(self.w) * self.w.abs().mean(1, keepdim=True)
        return F.hardtanh(h @ w.t()) * self.sc


@architecture((16,))
class TernaryStraightThrough(nn.Module):
    """Ternary activations."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(16, 16)
        self.o = nn.Linear(16, 4)

    def forward(self, x):
        h = self.a(x)
        q = (h > 0.5).float() - (h < -0.5).float()
        return self.o(q * h.abs().mean(-1, keepdim=True))


@architecture((16,))
class FakeQuantRound(nn.Module):
    """Rounding and remainders."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(16, 16)
        self.o = nn.Linear(16, 4)

    def forward(self, x):
        h = self.a(x)
        sc = h.abs().amax(-1, keepdim=True) / 127 + 1e-08
        q = torch.clamp(torch.round(h / sc), -128, 127) * sc
        return (self.o(q), torch.floor(h), torch.fmod(h, 0.7), torch.remainder(h, 0.5))


@architecture((6, 10))
class AdditiveCoupledFlow(nn.Module):
    """Affine coupling with a permutation."""

    def __init__(self):
        super().__init__()
        self.n = nn.Linear(5, 10)
        self.w = weights(10, 10)

    def forward(self, x):
        a, b = x.chunk(2, -1)
        sc, t = self.n(a).chunk(2, -1)
        ls = torch.tanh(sc)
        b = b * torch.exp(ls) + t
        z = torch.cat([a, b], -1)[..., torch.tensor([3, 1, 4, 0, 2, 9, 7, 5, 8, 6])]
        return (z @ self.w, ls.sum((-1, -2)), -0.5 * (z**2 + math.log(2 * math.pi)).sum((1, 2)))


@architecture((8,), (8,))
class EnergyModelGradFree(nn.Module):
    """Restricted Boltzmann machine."""

    def __init__(self):
        super().__init__()
        self.W = weights(8, 8)
        self.b = weights(8)

    def forward(self, v, h):
        p = torch.sigmoid(v @ self.W + self.b)
        hh = (p > torch.sigmoid(h)).float()
        return (
            p,
            torch.sigmoid(hh @ self.W.t()),
            -(v @ self.W * hh).sum(-1, keepdim=True) - F.softplus(v @ self.W).sum(-1, keepdim=True),
        )
