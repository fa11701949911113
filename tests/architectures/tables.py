"""Tables, trees, rules, graphs and sets: see architectures.py."""

import torch
import torch.nn.functional as F
from torch import nn

from architecture import architecture, weights


@architecture((5,), (6,), tokens={0: 20})
class DeepFM(nn.Module):
    """Factorisation machine and a deep network on the same embeddings."""

    def __init__(self):
        super().__init__()
        self.e, self.f = nn.Embedding(100, 4), nn.Embedding(100, 1)
        self.register_buffer("o", torch.arange(5) * 20)
        self.d = nn.Sequential(nn.Linear(26, 16), nn.BatchNorm1d(16), nn.PReLU(), nn.Linear(16, 1))

    def forward(self, i, x):
        i = i + self.o
        e = self.e(i)
        fm = 0.5 * (e.sum(1).pow(2) - e.pow(2).sum(1)).sum(1, keepdim=True)
        return torch.sigmoid(self.f(i).sum(1) + fm + self.d(torch.cat([e.flatten(1), x], 1)))


@architecture((6,), tokens={0: 5000})
class HashEmbedding(nn.Module):
    """Tokens hashed twice into one table; a third hash weighs them."""

    def __init__(self):
        super().__init__()
        self.e, self.w = nn.Embedding(64, 8), nn.Embedding(97, 2)
        self.l = nn.Linear(8, 4)

    def forward(self, i):
        a, b = (i * 31 + 7) % 64, (torch.div(i, 3, rounding_mode="floor") * 17 + 3) % 64
        w = self.w(i % 97)
        e = w[..., :1] * self.e(a) + w[..., 1:] * self.e(b)
        return self.l(e.mean(1))


@architecture((10,))
class TabNetStep(nn.Module):
    """TabNet: gated units, masks by sparsemax, prior scales."""

    def __init__(self):
        super().__init__()
        self.s, self.f = nn.Linear(10, 16), nn.ModuleList([nn.Linear(10, 16) for _ in range(2)])
        self.a = nn.ModuleList([nn.Linear(8, 10) for _ in range(2)])
        self.n = nn.BatchNorm1d(10)
        self.o = nn.Linear(8, 3)

    def forward(self, x):
        x = self.n(x)
        h, prior, total = F.glu(self.s(x)), 1.0, 0.0
        for a, f in zip(self.a, self.f):
            z = a(h) * prior
            s = torch.sort(z, dim=-1, descending=True)[0]
            k = torch.arange(1, 11.0)
            c = s.cumsum(-1) - 1
            n = (k * s > c).float().sum(-1, keepdim=True)
            tau = torch.where(k == n, c, torch.zeros_like(c)).sum(-1, keepdim=True) / n
            m = F.relu(z - tau)
            prior = prior * (1.3 - m)
            h = F.glu(f(m * x)) * 0.7**0.5 + h * 0.7**0.5
            total = total + F.relu(h)
        return self.o(total)


@architecture((4,), (5,), tokens={0: 6})
class FTTransformer(nn.Module):
    """Transformer over tokenised features with a class token."""

    def __init__(self):
        super().__init__()
        self.e, self.w, self.b = nn.Embedding(24, 8), weights(5, 8), weights(5, 8)
        self.register_buffer("o", torch.arange(4) * 6)
        self.c = weights(1, 1, 8)
        self.t = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation=F.gelu)
        self.l = nn.Sequential(nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, i, x):
        t = torch.cat([self.c.expand(x.shape[0], -1, -1), self.e(i + self.o), x.unsqueeze(-1) * self.w + self.b], 1)
        return self.l(self.t(t)[:, 0])


@architecture((8,))
class HardTreeTraversal(nn.Module):
    """Boosted trees walked by computed node numbers."""

    def __init__(self):
        super().__init__()
        self.register_buffer("feature", torch.randint(0, 8, (5, 15)))
        self.register_buffer("threshold", torch.randn(5, 15) * 0.5)
        self.register_buffer("leaf", torch.randn(5, 16, 3))

    def forward(self, x):
        total = 0
        for f, t, leaf in zip(self.feature, self.threshold, self.leaf):
            n = torch.zeros(x.shape[0], 1, dtype=torch.long)
            for _ in range(4):
                n = 2 * n + 1 + (torch.gather(x, 1, f[n]) > t[n]).long()
            total = total + leaf[n.squeeze(1) - 15]
        return total


@architecture((16,))
class TsetlinClauses(nn.Module):
    """Clauses: ands of literals, votes by sign."""

    def __init__(self):
        super().__init__()
        self.register_buffer("include", (torch.rand(20, 32) > 0.9))
        self.register_buffer("votes", torch.randint(-9, 10, (20, 3)).float())

    def forward(self, x):
        b = x > 0
        literals = torch.cat([b, ~b], 1).unsqueeze(1)
        clauses = torch.logical_or(literals, ~self.include).float().amin(-1)
        return clauses @ self.votes + 0.5


@architecture((6,))
class KernelMachineRBF(nn.Module):
    """Radial kernel against support vectors, one-against-one votes."""

    def __init__(self):
        super().__init__()
        self.s, self.a = weights(12, 6, k=1), weights(12, 3, k=1)

    def forward(self, x):
        k = torch.exp(-0.2 * torch.cdist(x, self.s).pow(2))
        d = k @ self.a
        return d, torch.stack([(d > 0).float().sum(1), (d <= 0).float().sum(1)], 1)


@architecture((1, 16, 16))
class PrototypeDistances(nn.Module):
    """Features against prototypes of classes: distances, temperature."""

    def __init__(self):
        super().__init__()
        self.c = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten())
        self.p = weights(5, 128, k=1)

    def forward(self, x):
        z = self.c(x)
        return F.log_softmax(-((z.unsqueeze(1) - self.p.unsqueeze(0)) ** 2).sum(2) / 20, 1)


@architecture((10, 6), (10, 6))
class SiameseCosine(nn.Module):
    """Two inputs through one network, cosine and distance."""

    def __init__(self):
        super().__init__()
        self.g, self.l = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 8)

    def forward(self, a, b):
        a, b = (self.l(self.g(x)[1][0]) for x in (a, b))
        return F.cosine_similarity(a, b, dim=1), F.pairwise_distance(a, b)


@architecture((9, 5), (9,))
class DeepSetsMasked(nn.Module):
    """Permutation-invariant sums, means and maxima under a mask."""

    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(5, 12), nn.ELU(), nn.Linear(12, 12))
        self.r = nn.Sequential(nn.Linear(36, 12), nn.Softplus(), nn.Linear(12, 4))

    def forward(self, x, m):
        m = (m > -0.5).unsqueeze(-1)
        h = self.f(x)
        s = h.masked_fill(~m, 0.0).sum(1)
        n = m.float().sum(1).clamp(min=1)
        top = h.masked_fill(~m, float("-inf")).max(1)[0].clamp(min=-10)
        return self.r(torch.cat([s, s / n, top], 1))


@architecture((7, 6), (7, 7))
class GatedGraphDiffPool(nn.Module):
    """Gated graph network, normalised adjacency, soft clusters of vertices."""

    def __init__(self):
        super().__init__()
        self.m, self.g = nn.Linear(6, 6), nn.GRUCell(6, 6)
        self.s, self.o = nn.Linear(6, 3), nn.Linear(6, 4)

    def forward(self, x, a):
        a = (a > 0.3).float()
        a = torch.clamp(a + a.transpose(1, 2) + torch.eye(7), max=1.0)
        d = a.sum(-1).pow(-0.5)
        a = d.unsqueeze(-1) * a * d.unsqueeze(-2)
        for _ in range(2):
            x = self.g((a @ self.m(x)).view(-1, 6), x.reshape(-1, 6)).view(-1, 7, 6)
        s = F.softmax(self.s(x), -1)
        x, a = s.transpose(1, 2) @ x, s.transpose(1, 2) @ a @ s
        return self.o(F.relu(a @ x)).amax(1)


@architecture((8, 5), (2, 12), tokens={1: 8})
class EdgeListGIN(nn.Module):
    """Messages along an edge list that is an input, summed at their targets."""

    def __init__(self):
        super().__init__()
        self.n = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 5))
        self.o = nn.Linear(5, 3)

    def forward(self, x, edges):
        source, target = edges[0, 0], edges[0, 1]
        for _ in range(2):
            x0 = x[0]
            total = torch.zeros_like(x0).scatter_add(0, target.unsqueeze(1).expand(-1, 5), F.relu(x0[source]))
            x = self.n(1.1 * x0 + total).unsqueeze(0)
        return self.o(x.mean(1))


@architecture((6, 5))
class RelationPairs(nn.Module):
    """All pairs of objects through one network."""

    def __init__(self):
        super().__init__()
        self.g, self.f = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU()), nn.Linear(8, 4)

    def forward(self, x):
        a, b = x.repeat_interleave(6, 1), x.repeat(1, 6, 1)
        return self.f(self.g(torch.cat([a, b], -1)).sum(1))


@architecture((6, 5))
class Set2SetReadout(nn.Module):
    """Readout of a set by an LSTM that attends to it."""

    def __init__(self):
        super().__init__()
        self.l = nn.LSTMCell(10, 5)

    def forward(self, x):
        q = x.new_zeros(x.shape[0], 10)
        h = (x.new_zeros(x.shape[0], 5), x.new_zeros(x.shape[0], 5))
        for _ in range(3):
            h = self.l(q, h)
            a = F.softmax((x * h[0].unsqueeze(1)).sum(-1, keepdim=True), 1)
            q = torch.cat([h[0], (a * x).sum(1)], 1)
        return q


@architecture((12,))
class WinnersTakeAll(nn.Module):
    """The k strongest units of a layer, by the k-th value and by scatter."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 24), nn.Linear(24, 4)

    def forward(self, x):
        h = self.a(x)
        v, i = h.topk(5, 1)
        y = torch.zeros_like(h).scatter(1, i, v)
        z = h * (h >= v[:, -1:]).to(h.dtype)
        return self.b(y), self.b(F.relu(z))


@architecture((16,))
class LocalHeadsMLP(nn.Module):
    """Layers that learned apart, each with its own head; heads are averaged."""

    def __init__(self):
        super().__init__()
        self.l = nn.ModuleList([nn.Linear(16, 24), nn.Linear(24, 24), nn.Linear(24, 24)])
        self.h = nn.ModuleList([nn.Linear(24, 5) for _ in range(3)])

    def forward(self, x):
        y = []
        for l, h in zip(self.l, self.h):
            x = x / (x.norm(2, 1, keepdim=True) + 1e-4)
            x = F.relu(l(x))
            y.append(h(x))
        return torch.stack(y).mean(0), (x**2).mean(1)
