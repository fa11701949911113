"""One step of a recurrent method, with its state in and out: see architectures.py."""

import torch
import torch.nn.functional as F
from torch import nn

from architecture import architecture, weights


@architecture((2, 8, 8), (4, 8, 8))
class ConvGRUStep(nn.Module):
    """Convolutional GRU, one step."""

    def __init__(self):
        super().__init__()
        self.g = nn.Conv2d(6, 8, 3, padding=1)
        self.c = nn.Conv2d(6, 4, 3, padding=1)

    def forward(self, x, h):
        z, r = torch.sigmoid(self.g(torch.cat([x, h], 1))).chunk(2, 1)
        n = torch.tanh(self.c(torch.cat([x, r * h], 1)))
        return (1 - z) * h + z * n


@architecture((16,), (2, 6, 8), (2, 6, 8))
class DecoderStepWithCache(nn.Module):
    """Transformer decoder, one token, keys and values of the last six kept outside."""

    def __init__(self):
        super().__init__()
        self.n = nn.LayerNorm(16)
        self.q = nn.Linear(16, 48, bias=False)
        self.o = nn.Linear(16, 16)
        self.m = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x, keys, values):
        q, k, v = self.q(self.n(x)).view(-1, 3, 2, 1, 8).unbind(1)
        k, v = torch.cat([keys, k], 2), torch.cat([values, v], 2)
        a = F.softmax(q @ k.transpose(2, 3) / 8**0.5, -1) @ v
        x = x + self.o(a.flatten(1))
        return x + self.m(x), k[:, :, 1:], v[:, :, 1:]


@architecture((8,), (16,), (16,), (5, 16))
class LSTMAttentionDecoderStep(nn.Module):
    """Decoder of translation: LSTM, additive attention over what was encoded."""

    def __init__(self):
        super().__init__()
        self.l = nn.LSTMCell(24, 16)
        self.w = nn.Linear(16, 12)
        self.u = nn.Linear(16, 12, bias=False)
        self.v = nn.Linear(12, 1, bias=False)
        self.o = nn.Linear(32, 9)

    def forward(self, x, h, c, memory):
        e = self.v(torch.tanh(self.w(h).unsqueeze(1) + self.u(memory)))
        context = (F.softmax(e, 1) * memory).sum(1)
        h, c = self.l(torch.cat([x, context], 1), (h, c))
        return F.log_softmax(self.o(torch.cat([h, context], 1)), 1), h, c


@architecture((1,), (8,), (6,))
class LegendreMemoryStep(nn.Module):
    """Legendre memory unit, one step."""

    def __init__(self):
        super().__init__()
        order, theta = 8, 16.0
        q = torch.arange(order, dtype=torch.float64)
        r = (2 * q + 1)[:, None] / theta
        i, j = torch.meshgrid(q, q, indexing="ij")
        a = torch.where(i < j, torch.tensor(-1.0, dtype=torch.float64), (-1.0) ** (i - j + 1)) * r
        b = (-1.0) ** q[:, None] * r
        whole = torch.zeros(order + 1, order + 1, dtype=torch.float64)
        whole[:order, :order], whole[:order, order:] = a, b
        whole = torch.matrix_exp(whole).float()
        self.register_buffer("a", whole[:order, :order])
        self.register_buffer("b", whole[:order, order])
        self.e = weights(1, 1)
        self.eh = weights(6, 1)
        self.em = weights(8, 1, k=0.1)
        self.w = nn.Linear(1 + 6 + 8, 6)

    def forward(self, x, m, h):
        u = x @ self.e + h @ self.eh + m @ self.em
        m = m @ self.a.t() + u * self.b
        return torch.tanh(self.w(torch.cat([x, h, m], 1))), m


@architecture((8,), (8,), (1,))
class PhasedLSTMGate(nn.Module):
    """Time gate of phased LSTM: remainders and comparisons."""

    def __init__(self):
        super().__init__()
        self.r = nn.GRUCell(8, 8)
        self.register_buffer("tau", torch.linspace(2, 7, 8))
        self.register_buffer("s", torch.linspace(0, 1, 8))

    def forward(self, x, h, t):
        phi = torch.fmod(torch.abs(t * 4 - self.s), self.tau) / self.tau
        up = 2 * phi / 0.6
        k = torch.where(phi < 0.3, up, torch.where(phi < 0.6, 2 - up, 0.001 * phi))
        n = self.r(x, h)
        return k * n + (1 - k) * h


@architecture((6,), (8,))
class FastGRNNStep(nn.Module):
    """FastGRNN: low-rank weights shared by gate and candidate."""

    def __init__(self):
        super().__init__()
        self.w1, self.w2 = weights(6, 3), weights(3, 8)
        self.u1, self.u2 = weights(8, 3), weights(3, 8)
        self.bz, self.bh = weights(8), weights(8)
        self.zeta, self.nu = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(-4.0))

    def forward(self, x, h):
        p = x @ self.w1 @ self.w2 + h @ self.u1 @ self.u2
        z, c = torch.sigmoid(p + self.bz), torch.tanh(p + self.bh)
        return (torch.sigmoid(self.zeta) * (1 - z) + torch.sigmoid(self.nu)) * c + z * h


@architecture((6,), (8,), (1,))
class ClosedFormContinuousStep(nn.Module):
    """Closed-form continuous-time cell (CfC), one step."""

    def __init__(self):
        super().__init__()
        self.b = nn.Sequential(nn.Linear(14, 16), nn.SiLU())
        self.f, self.g, self.ta, self.tb = (nn.Linear(16, 8) for _ in range(4))

    def forward(self, x, h, dt):
        z = self.b(torch.cat([x, h], 1))
        t = torch.sigmoid(self.ta(z) * torch.abs(dt) + self.tb(z))
        return torch.tanh(self.f(z)) * (1 - t) + t * torch.tanh(self.g(z))


@architecture((2,), (4,), (4, 4))
class KalmanStep(nn.Module):
    """Kalman filter with a learned model, one step: a 2 × 2 inverse."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.eye(4) * 0.9 + torch.randn(4, 4) * 0.1)
        self.h = weights(2, 4, k=0.7)

    def forward(self, y, m, p):
        p = p @ p.transpose(1, 2) * 0.3 + torch.eye(4)
        m = m @ self.a.t()
        p = self.a @ p @ self.a.t() + 0.1 * torch.eye(4)
        s = self.h @ p @ self.h.t() + torch.eye(2)
        det = s[:, 0, 0] * s[:, 1, 1] - s[:, 0, 1] * s[:, 1, 0]
        inverse = torch.stack([s[:, 1, 1], -s[:, 0, 1], -s[:, 1, 0], s[:, 0, 0]], 1).view(-1, 2, 2) / det.view(-1, 1, 1)
        k = p @ self.h.t() @ inverse
        m = m + (k @ (y - m @ self.h.t()).unsqueeze(2)).squeeze(2)
        return m, (torch.eye(4) - k @ self.h) @ p


@architecture((6,), (4, 6), (4,))
class LinearAttentionStep(nn.Module):
    """Linear attention, one token: a matrix and a sum are its state."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(6, 6)

    def forward(self, x, s, z):
        z = F.relu(z)
        q, k = F.elu(self.q(x)) + 1, F.elu(self.k(x)) + 1
        s = s + k.unsqueeze(2) * self.v(x).unsqueeze(1)
        z = z + k
        y = (q.unsqueeze(1) @ s).squeeze(1) / ((q * z).sum(1, keepdim=True) + 1e-6)
        return y, s, z


@architecture((4,), (4, 6))
class DeltaRuleStep(nn.Module):
    """Fast weights with the delta rule, one step."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.b = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 6), nn.Linear(4, 1)

    def forward(self, x, w):
        q, k = F.normalize(F.silu(self.q(x)), dim=-1), F.normalize(F.silu(self.k(x)), dim=-1)
        old = torch.einsum("bk,bkv->bv", k, w)
        w = w + torch.sigmoid(self.b(x)).unsqueeze(2) * torch.einsum("bk,bv->bkv", k, self.v(x) - old)
        return torch.einsum("bk,bkv->bv", q, w), w


@architecture((10,), (12,), (12,))
class SparseLSTMStep(nn.Module):
    """LSTM with masked weights, one step, peepholes."""

    def __init__(self):
        super().__init__()
        self.w, self.u, self.b = weights(48, 10), weights(48, 12), weights(48)
        self.register_buffer("m", (torch.rand(48, 10) > 0.8).float())
        self.register_buffer("n", (torch.rand(48, 12) > 0.8).float())
        self.p = weights(3, 12)

    def forward(self, x, h, c):
        i, f, g, o = (F.linear(x, self.w * self.m) + F.linear(h, self.u * self.n, self.b)).chunk(4, 1)
        c2 = torch.sigmoid(f + self.p[0] * c) * c + torch.sigmoid(i + self.p[1] * c) * torch.tanh(g)
        return torch.sigmoid(o + self.p[2] * c2) * torch.tanh(c2), c2


@architecture((2, 3, 12), (2, 6, 12))
class StreamingTCNStep(nn.Module):
    """Dilated causal convolution over a chunk, behind what was kept."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(2, 4, (3, 1), dilation=(3, 1))

    def forward(self, x, kept):
        x = torch.cat([kept, x], 2)
        return F.relu(self.c(x)), x[:, :, -6:]


@architecture((6,), (10,), (10,))
class AdaptiveLIFStep(nn.Module):
    """Spiking neurons with an adapting threshold, one step."""

    def __init__(self):
        super().__init__()
        self.w, self.r = nn.Linear(6, 10), weights(10, 10)

    def forward(self, x, v, a):
        a = torch.abs(a)
        s = (v > 0.5 + 0.2 * a).float()
        a = 0.9 * a + s
        v = 0.8 * v * (1 - s) + self.w(x) + s @ self.r
        return v, a, (v >= 0.5 + 0.2 * a).to(torch.float32)


@architecture((12, 4))
class SkipRNNUnrolled(nn.Module):
    """Skip RNN: a rounded gate decides whether the state moves."""

    def __init__(self):
        super().__init__()
        self.c = nn.GRUCell(4, 6)
        self.p = nn.Linear(6, 1)
        nn.init.constant_(self.p.bias, 0.1)

    def forward(self, x):
        h = x.new_zeros(x.shape[0], 6)
        for t in range(12):
            u = torch.sigmoid(self.p(h))
            h = torch.where(u > 0.5, self.c(x[:, t], h), h)
        return h
