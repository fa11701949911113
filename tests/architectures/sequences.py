"""Attention, state spaces, reservoirs and recurrent cells over sequences: see architectures.py."""

import torch
import torch.nn.functional as F
from torch import nn

from architecture import architecture, weights


@architecture((16, 8))
class LinearAttention(nn.Module):
    """Attention with a feature map in place of the softmax."""

    def __init__(self):
        super().__init__()
        self.q = nn.Linear(8, 24)
        self.o = nn.Linear(8, 8)

    def forward(self, x):
        q, k, v = self.q(x).chunk(3, -1)
        q = F.elu(q) + 1
        k = F.elu(k) + 1
        kv = torch.einsum("bnd,bne->bde", k, v)
        z = 1 / (torch.einsum("bnd,bd->bn", q, k.sum(1)) + 1e-06)
        return self.o(torch.einsum("bnd,bde,bn->bne", q, kv, z))


@architecture((16, 8))
class CausalLinearAttentionCumsum(nn.Module):
    """Linear attention, causal by cumulated sums."""

    def __init__(self):
        super().__init__()
        self.q = nn.Linear(8, 24)

    def forward(self, x):
        q, k, v = self.q(x).chunk(3, -1)
        q = F.relu(q) + 0.1
        k = F.relu(k) + 0.1
        kv = (k.unsqueeze(-1) * v.unsqueeze(-2)).cumsum(1)
        z = k.cumsum(1)
        return (q.unsqueeze(-1) * kv).sum(2) / ((q * z).sum(-1, keepdim=True) + 0.001)


@architecture((8,), (16,))
class RetNetStep(nn.Module):
    """One step of retention, with its state."""

    def __init__(self):
        super().__init__()
        self.q = nn.Linear(8, 4)
        self.k = nn.Linear(8, 4)
        self.v = nn.Linear(8, 4)
        self.o = nn.Linear(4, 8)

    def forward(self, x, st):
        S = st.view(-1, 4, 4) * 0.9 + self.k(x).unsqueeze(2) * self.v(x).unsqueeze(1)
        y = (self.q(x).unsqueeze(1) @ S).squeeze(1)
        return (self.o(F.group_norm(y.unsqueeze(-1), 2).squeeze(-1)), S.reshape(-1, 16))


@architecture((8,), (8,), (8,), (8,))
class RWKVStep(nn.Module):
    """One step of RWKV time mixing, with its state."""

    def __init__(self):
        super().__init__()
        self.k = nn.Linear(8, 8)
        self.v = nn.Linear(8, 8)
        self.r = nn.Linear(8, 8)
        self.w = weights(8)
        self.u = weights(8)
        self.m = weights(8)

    def forward(self, x, num, den, prev):
        m = torch.sigmoid(self.m)
        xx = x * m + prev * (1 - m)
        k = self.k(xx)
        v = self.v(xx)
        r = torch.sigmoid(self.r(xx))
        den = den.abs() + 1
        e = torch.exp(self.u + k)
        wkv = (num + e * v) / (den + e)
        w = torch.exp(-torch.exp(self.w))
        ek = torch.exp(k)
        return (r * wkv, w * num + ek * v, w * den + ek, x)


@architecture((12, 6))
class S4DConv(nn.Module):
    """Diagonal state space as a long convolution."""

    def __init__(self):
        super().__init__()
        self.a = weights(6, 4)
        self.b = weights(6, 4)
        self.c = weights(6, 4)
        self.dt = weights(6)
        self.l = nn.Linear(6, 6)

    def forward(self, x):
        dt = F.softplus(self.dt)[:, None]
        A = -torch.exp(self.a)
        t = torch.arange(12.0)
        K = (self.c * self.b * (torch.exp(A * dt) - 1) / A)[:, :, None] * torch.exp((A * dt)[:, :, None] * t)
        K = K.sum(1).flip(-1)
        u = F.pad(x.transpose(1, 2), (11, 0))
        y = F.conv1d(u, K[:, None], groups=6)
        return self.l(F.gelu(y.transpose(1, 2)))


@architecture((10, 4))
class MambaScanUnrolled(nn.Module):
    """Selective scan, unrolled."""

    def __init__(self):
        super().__init__()
        self.i = nn.Linear(4, 16)
        self.cv = nn.Conv1d(8, 8, 3, groups=8, padding=2)
        self.x = nn.Linear(8, 2 + 6)
        self.dt = nn.Linear(2, 8)
        self.A = weights(8, 3)
        self.D = weights(8)
        self.o = nn.Linear(8, 4)

    def forward(self, x):
        a, z = self.i(x).chunk(2, -1)
        a = F.silu(self.cv(a.transpose(1, 2))[:, :, :10]).transpose(1, 2)
        d, B, C = torch.split(self.x(a), [2, 3, 3], -1)
        d = F.softplus(self.dt(d))
        A = -torch.exp(self.A)
        h = torch.zeros(x.shape[0], 8, 3)
        ys = []
        for t in range(10):
            h = torch.exp(d[:, t, :, None] * A) * h + (d[:, t] * a[:, t]).unsqueeze(-1) * B[:, t].unsqueeze(1)
            ys.append((h * C[:, t].unsqueeze(1)).sum(-1))
        return self.o((torch.stack(ys, 1) + a * self.D) * F.silu(z))


@architecture((20, 3))
class EchoState(nn.Module):
    """Leaky reservoir, unrolled."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(16, 16) * 0.2)
        self.i = weights(16, 3)
        self.o = nn.Linear(16, 2)

    def forward(self, x):
        h = torch.zeros(x.shape[0], 16)
        for t in range(20):
            h = 0.7 * h + 0.3 * torch.tanh(x[:, t] @ self.i.t() + h @ self.w.t())
        return self.o(h)


@architecture((8, 10))
class LIFUnrolled(nn.Module):
    """Spiking neurons with soft reset."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(10, 12)
        self.b = nn.Linear(12, 4)

    def forward(self, x):
        v = torch.zeros(x.shape[0], 12)
        o = 0
        for t in range(8):
            v = 0.8 * v + self.a(x[:, t])
            sp = (v > 0.5).float()
            v = v - sp * 0.5
            o = o + self.b(sp)
        return o / 8


@architecture((8, 10))
class LIFHardReset(nn.Module):
    """Spiking neurons with hard reset and a maximum over time."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(10, 12)
        self.b = nn.Linear(12, 4)

    def forward(self, x):
        v = torch.zeros(x.shape[0], 12)
        o = []
        for t in range(8):
            v = 0.8 * v + self.a(x[:, t])
            sp = (v >= 0.5).to(x.dtype)
            v = torch.where(v >= 0.5, torch.zeros_like(v), v)
            o.append(self.b(sp))
        return torch.stack(o, 1).max(1)[0]


@architecture((64, 8))
class BigBirdBlockLocal(nn.Module):
    """Attention within neighbouring blocks."""

    def __init__(self):
        super().__init__()
        self.q = nn.Linear(8, 24)

    def forward(self, x):
        q, k, v = self.q(x).chunk(3, -1)
        B = x.shape[0]
        q = q.view(B, 8, 8, 8)
        kp = F.pad(k, (0, 0, 8, 8))
        vp = F.pad(v, (0, 0, 8, 8))
        kw = torch.stack([kp[:, i * 8 : i * 8 + 24] for i in range(8)], 1)
        vw = torch.stack([vp[:, i * 8 : i * 8 + 24] for i in range(8)], 1)
        return (torch.softmax(q @ kw.transpose(-1, -2) / 8**0.5, -1) @ vw).reshape(B, 64, 8)


@architecture((16, 8))
class LinformerNystrom(nn.Module):
    """Attention through landmarks, with an iterated pseudo-inverse."""

    def __init__(self):
        super().__init__()
        self.q = nn.Linear(8, 24)
        self.e = weights(4, 16)

    def forward(self, x):
        q, k, v = self.q(x).chunk(3, -1)
        ql = q.reshape(-1, 4, 4, 8).mean(2)
        kl = k.reshape(-1, 4, 4, 8).mean(2)
        A = torch.softmax(ql @ kl.transpose(1, 2) / 3, -1)
        Z = A.transpose(1, 2) / (A.abs().sum(-1).max(-1)[0] * A.abs().sum(-2).max(-1)[0]).view(-1, 1, 1)
        I = torch.eye(4)
        for _ in range(4):
            KZ = A @ Z
            Z = 0.25 * Z @ (13 * I - KZ @ (15 * I - KZ @ (7 * I - KZ)))
        return torch.softmax(q @ kl.transpose(1, 2) / 3, -1) @ Z @ (torch.softmax(ql @ k.transpose(1, 2) / 3, -1) @ v) + (
            self.e @ v
        ).mean(1, keepdim=True)


@architecture((16, 8))
class PerformerFavor(nn.Module):
    """Attention through positive random features."""

    def __init__(self):
        super().__init__()
        self.q = nn.Linear(8, 24)
        self.register_buffer("w", torch.randn(12, 8))

    def forward(self, x):
        q, k, v = self.q(x).chunk(3, -1)
        f = (
            lambda t: torch.exp(
                t @ self.w.t() * 0.6 - (t * t).sum(-1, keepdim=True) * 0.18 - (t @ self.w.t() * 0.6).amax(-1, keepdim=True)
            )
            + 0.0001
        )
        q, k = (f(q), f(k))
        return q @ (k.transpose(1, 2) @ v) / (q * k.sum(1, keepdim=True)).sum(-1, keepdim=True)


@architecture((12, 8))
class SubsampledTopKAttention(nn.Module):
    """Attention over the best-scored tokens."""

    def __init__(self):
        super().__init__()
        self.q = nn.Linear(8, 24)
        self.sc = nn.Linear(8, 1)

    def forward(self, x):
        i = self.sc(x).squeeze(-1).topk(5, 1)[1]
        y = torch.gather(x, 1, i.unsqueeze(-1).expand(-1, -1, 8))
        q = self.q(x)[..., :8]
        k = self.q(y)[..., 8:16]
        v = self.q(y)[..., 16:]
        return torch.softmax(q @ k.transpose(1, 2) / 8**0.5, -1) @ v


@architecture((12, 4))
class AarenParallel(nn.Module):
    """Attention as a recurrent network, all steps at once."""

    def __init__(self):
        super().__init__()
        self.k = nn.Linear(4, 4)
        self.v = nn.Linear(4, 4)
        self.q = weights(4, k=1)

    def forward(self, x):
        sc = (self.k(x) * self.q).sum(-1)
        m = sc.amax(1, keepdim=True)
        e = torch.exp(sc - m).unsqueeze(-1)
        return (e * self.v(x)).cumsum(1) / e.cumsum(1)


@architecture((4, 40))
class TCN(nn.Module):
    """Dilated causal convolutions."""

    def __init__(self):
        super().__init__()
        self.a = nn.utils.weight_norm(nn.Conv1d(4, 8, 3, padding=2))
        self.b = nn.utils.weight_norm(nn.Conv1d(8, 8, 3, padding=4, dilation=2))
        self.d = nn.Conv1d(4, 8, 1)
        self.o = nn.Linear(8, 3)

    def forward(self, x):
        h = F.relu(self.a(x)[:, :, :-2])
        h = F.relu(self.b(h)[:, :, :-4])
        return self.o(F.relu(h + self.d(x))[:, :, -1])


@architecture((20, 16))
class ConformerBlock(nn.Module):
    """Conformer block with relative positions."""

    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 16))
        self.a = nn.MultiheadAttention(16, 2, batch_first=True)
        self.n = nn.LayerNorm(16)
        self.p = nn.Conv1d(16, 32, 1)
        self.d = nn.Conv1d(16, 16, 7, padding=3, groups=16)
        self.b = nn.BatchNorm1d(16)
        self.q = nn.Conv1d(16, 16, 1)
        self.n2 = nn.LayerNorm(16)
        self.bu = weights(2, 8)
        self.pos = weights(2, 39, 8)

    def forward(self, x):
        x = x + 0.5 * self.f(x)
        h = self.n(x)
        x = x + self.a(h, h, h, need_weights=False)[0]
        q = (x.view(-1, 20, 2, 8) + self.bu).transpose(1, 2)
        r = q @ self.pos.transpose(-1, -2)
        B = x.shape[0]
        r = F.pad(r, (1, 0)).view(-1, 2, 40, 20)[:, :, 1:].reshape(-1, 2, 20, 39)[..., :20]
        x = x + (torch.softmax(r, -1) @ x.view(-1, 20, 2, 8).transpose(1, 2)).transpose(1, 2).flatten(2) * 0.3
        h = F.glu(self.p(self.n2(x).transpose(1, 2)), 1)
        x = x + self.q(F.silu(self.b(self.d(h)))).transpose(1, 2)
        return x + 0.5 * self.f(x)


@architecture((10, 6))
class SRUQuasiRNN(nn.Module):
    """Quasi-recurrent layer, unrolled."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv1d(6, 18, 2)

    def forward(self, x):
        z, f, o = self.c(F.pad(x.transpose(1, 2), (1, 0))).chunk(3, 1)
        z = torch.tanh(z)
        f = torch.sigmoid(f)
        o = torch.sigmoid(o)
        c = torch.zeros_like(z[:, :, 0])
        y = []
        for t in range(10):
            c = f[:, :, t] * c + (1 - f[:, :, t]) * z[:, :, t]
            y.append(o[:, :, t] * c)
        return torch.stack(y, -1)


@architecture((10, 6))
class MinGRULogSpace(nn.Module):
    """Minimal GRU in logarithms."""

    def __init__(self):
        super().__init__()
        self.z = nn.Linear(6, 8)
        self.h = nn.Linear(6, 8)

    def forward(self, x):
        k = self.z(x)
        lz = -F.softplus(-k)
        lc = -F.softplus(k)
        g = lambda v: torch.where(v >= 0, (F.relu(v) + 0.5).log(), -F.softplus(-v))
        a = lc.cumsum(1)
        return torch.exp(a + torch.log(torch.cumsum(torch.exp(lz + g(self.h(x)) - a), 1)))


@architecture((6,), (8,), (8,))
class LiquidTimeConstant(nn.Module):
    """Liquid time constants, one step."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(14, 8)
        self.tau = weights(8)
        self.A = weights(8)

    def forward(self, x, h, _u):
        for _ in range(3):
            f = torch.sigmoid(self.f(torch.cat([x, h], 1)))
            h = (h + 0.3 * f * self.A) / (1 + 0.3 * (1 / (F.softplus(self.tau) + 1) + f))
        return h + 0.0 * _u


@architecture((6,), (8,), (8,))
class xLSTMmatrixStep(nn.Module):
    """Matrix memory of xLSTM, one step."""

    def __init__(self):
        super().__init__()
        self.l = nn.Linear(6, 5 * 2)

    def forward(self, x, c, n):
        q, k, v, i, f = self.l(x).chunk(5, 1)
        C = c.view(-1, 2, 4)[:, :, :2]
        i = torch.exp(torch.clamp(i, max=3)).unsqueeze(-1)
        f = torch.sigmoid(f).unsqueeze(-1)
        C = f * C + i * (v.unsqueeze(-1) * k.unsqueeze(-2))
        norm = f.squeeze(-1) * n[:, :2] + i.squeeze(-1) * k
        h = (C @ q.unsqueeze(-1)).squeeze(-1) / torch.maximum((norm * q).sum(-1, keepdim=True).abs(), torch.ones(1))
        return (h, C.flatten(1), norm)


@architecture((4, 16))
class BiGRUPackAttn(nn.Module):
    """Bidirectional GRU with attention, plain recurrent layer."""

    def __init__(self):
        super().__init__()
        self.g = nn.GRU(16, 8, bidirectional=True, batch_first=True)
        self.a = nn.Linear(16, 1)
        self.r = nn.RNN(16, 4, nonlinearity="relu", batch_first=True)

    def forward(self, x):
        y, h = self.g(x)
        a = torch.softmax(torch.tanh(self.a(y)), 1)
        r, hr = self.r(y)
        return ((a * y).sum(1), h.transpose(0, 1).flatten(1), hr[0])


@architecture((24, 6))
class Informer_AutoCorr(nn.Module):
    """Decomposition of a series, and windows of it."""

    def __init__(self):
        super().__init__()
        self.p = nn.Linear(6, 6)
        self.q = nn.Linear(12, 24)
        self.t = nn.Linear(12, 4)

    def forward(self, x):
        t = F.avg_pool1d(F.pad(x.transpose(1, 2), (12, 12), mode="replicate"), 25, 1)
        sez = x.transpose(1, 2) - t
        mean = x.mean(1, keepdim=True).detach()
        return (
            torch.cat([self.t(t[:, :, -12:]), self.t(sez[:, :, ::2])], -1) + mean.transpose(1, 2),
            self.p(x).unfold(1, 8, 4),
        )


@architecture((400,))
class Wav2VecFront(nn.Module):
    """Convolutions over raw sound, with weight normalisation."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv1d(1, 8, 10, 5, bias=False)
        self.g = nn.GroupNorm(8, 8)
        self.c2 = nn.Conv1d(8, 8, 3, 2, bias=False)
        self.p = nn.utils.weight_norm(nn.Conv1d(8, 8, 4, padding=2, groups=2), dim=2)
        self.l = nn.Linear(8, 4)
        self.n = nn.LayerNorm(8)

    def forward(self, x):
        h = F.gelu(self.g(self.c(x.unsqueeze(1))))
        h = F.gelu(self.c2(h))
        h = h + F.gelu(self.p(h)[:, :, :-1])
        return self.l(self.n(h.transpose(1, 2)))


@architecture((256,))
class STFTConvFront(nn.Module):
    """Spectrum by convolutions, mel bands, GRU."""

    def __init__(self):
        super().__init__()
        n = torch.arange(32.0)
        k = torch.arange(17.0)[:, None]
        w = torch.hann_window(32)
        self.register_buffer("c", (torch.cos(2 * torch.pi * k * n / 32) * w)[:, None])
        self.register_buffer("s_", (torch.sin(2 * torch.pi * k * n / 32) * w)[:, None])
        self.register_buffer("mel", torch.rand(8, 17))
        self.g = nn.GRU(8, 6, batch_first=True)

    def forward(self, x):
        x = F.pad(x.unsqueeze(1), (16, 16), mode="reflect")
        re = F.conv1d(x, self.c, stride=16)
        im = F.conv1d(x, self.s_, stride=16)
        m = torch.log(torch.clamp(self.mel @ (re**2 + im**2), min=1e-05))
        m = (m - m.mean(-1, keepdim=True)) / (m.std(-1, keepdim=True) + 1e-05)
        return self.g(m.transpose(1, 2))[0]
