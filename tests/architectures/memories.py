"""Memories, codebooks, experts, retrieval and tokens: see architectures.py."""

import torch
import torch.nn.functional as F
from torch import nn

from architecture import architecture, weights


@architecture((10, 8))
class SlotAttention(nn.Module):
    """Slots that compete for inputs."""

    def __init__(self):
        super().__init__()
        self.s = weights(1, 3, 8, k=1)
        self.q = nn.Linear(8, 8)
        self.k = nn.Linear(8, 8)
        self.v = nn.Linear(8, 8)
        self.g = nn.GRUCell(8, 8)
        self.n = nn.LayerNorm(8)
        self.m = nn.LayerNorm(8)

    def forward(self, x):
        x = self.n(x)
        k = self.k(x)
        v = self.v(x)
        sl = self.s.expand(x.shape[0], -1, -1)
        for _ in range(2):
            a = torch.softmax(k @ self.q(self.m(sl)).transpose(1, 2) / 8**0.5, -1) + 0.0001
            a = a / a.sum(1, keepdim=True)
            u = a.transpose(1, 2) @ v
            sl = self.g(u.reshape(-1, 8), sl.reshape(-1, 8)).reshape(-1, 3, 8)
        return sl


@architecture((10, 8))
class PerceiverLatents(nn.Module):
    """Latents that attend to inputs."""

    def __init__(self):
        super().__init__()
        self.l = weights(4, 8, k=1)
        self.a = nn.MultiheadAttention(8, 2, batch_first=True)
        self.b = nn.MultiheadAttention(8, 2, batch_first=True)
        self.o = nn.Linear(8, 3)

    def forward(self, x):
        l = self.l.unsqueeze(0).expand(x.shape[0], -1, -1)
        l = l + self.a(l, x, x, need_weights=False)[0]
        l = l + self.b(l, l, l, need_weights=False)[0]
        return self.o(l.mean(1))


@architecture((8,), (4,))
class HyperNetworkConv(nn.Module):
    """Layer whose weights a network makes."""

    def __init__(self):
        super().__init__()
        self.h = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8 * 6 + 6))

    def forward(self, x, z):
        w = self.h(z)
        W = w[:, :48].view(-1, 6, 8)
        return torch.tanh(torch.bmm(W, x.unsqueeze(-1)).squeeze(-1) + w[:, 48:])


@architecture((8, 10))
class MoETop1(nn.Module):
    """Mixture of experts, the best one by index."""

    def __init__(self):
        super().__init__()
        self.g = nn.Linear(10, 4)
        self.w = weights(4, 10, 12)
        self.v = weights(4, 12, 10)

    def forward(self, x):
        p = torch.softmax(self.g(x), -1)
        m, i = p.max(-1)
        w = self.w[i]
        v = self.v[i]
        h = F.relu(torch.einsum("bti,btih->bth", x, w))
        return x + m.unsqueeze(-1) * torch.einsum("bth,bthi->bti", h, v)


@architecture((10,))
class MoETop2Scatter(nn.Module):
    """Mixture of experts, two of four."""

    def __init__(self):
        super().__init__()
        self.g = nn.Linear(10, 4)
        self.w = weights(4, 10, 10)

    def forward(self, x):
        l = self.g(x)
        v, i = l.topk(2, -1)
        p = torch.zeros_like(l).scatter(1, i, torch.softmax(v, -1))
        return (torch.einsum("bi,eio->beo", x, self.w) * p.unsqueeze(-1)).sum(1)


@architecture((8,))
class VQCodebookCdist(nn.Module):
    """Nearest code of a codebook, by index."""

    def __init__(self):
        super().__init__()
        self.c = weights(16, 4, k=1)
        self.o = nn.Linear(8, 4)

    def forward(self, x):
        z = x.view(-1, 2, 4)
        d = (z**2).sum(-1, keepdim=True) - 2 * z @ self.c.t() + (self.c**2).sum(-1)
        i = d.argmin(-1)
        return (self.o(F.embedding(i, self.c).flatten(1)), i)


@architecture((8,))
class ProductQuantOneHot(nn.Module):
    """Product quantisation through one-hot vectors."""

    def __init__(self):
        super().__init__()
        self.c = weights(2, 8, 4, k=1)

    def forward(self, x):
        z = x.view(-1, 2, 4)
        d = ((z.unsqueeze(2) - self.c) ** 2).sum(-1)
        h = F.one_hot(d.argmin(-1), 8).float()
        return torch.einsum("bgk,gkd->bgd", h, self.c).flatten(1)


@architecture((8,))
class HopfieldModern(nn.Module):
    """Continuous Hopfield recall."""

    def __init__(self):
        super().__init__()
        self.m = weights(12, 8, k=1)

    def forward(self, x):
        for _ in range(3):
            x = torch.softmax(2 * x @ self.m.t(), -1) @ self.m
        return x


@architecture((16,))
class HammingTopK(nn.Module):
    """Retrieval by Hamming distance."""

    def __init__(self):
        super().__init__()
        self.p = weights(32, 16)
        self.register_buffer("db", (torch.randn(20, 32) > 0).float())

    def forward(self, x):
        c = (x @ self.p.t() > 0).float()
        d = (c.unsqueeze(1) != self.db).float().sum(-1)
        return (torch.topk(d, 3, largest=False)[0], torch.sigmoid(4 - d * 0.25))


@architecture((5, 8), (7, 8))
class LateInteractionMasked(nn.Module):
    """Late interaction: sums of best similarities."""

    def __init__(self):
        super().__init__()
        self.l = nn.Linear(8, 6)

    def forward(self, q, d):
        q = F.normalize(self.l(q), dim=-1)
        d = F.normalize(self.l(d), dim=-1)
        return torch.einsum("bqd,bkd->bqk", q, d).amax(-1).sum(-1, keepdim=True)


@architecture((6, 4))
class PointerDecodeUnrolled(nn.Module):
    """Pointer decoding with a mask of what was chosen."""

    def __init__(self):
        super().__init__()
        self.e = nn.Linear(4, 8)
        self.q = nn.Linear(8, 8)
        self.c = nn.GRUCell(8, 8)

    def forward(self, x):
        e = self.e(x)
        h = e.mean(1)
        mask = torch.zeros(x.shape[0], 6)
        outs = []
        inp = h
        for _ in range(4):
            h = self.c(inp, h)
            l = (e @ self.q(h).unsqueeze(-1)).squeeze(-1) - 10000.0 * mask
            outs.append(torch.softmax(l, -1))
            i = l.argmax(-1)
            oh = F.one_hot(i, 6).float()
            mask = mask + oh
            inp = torch.gather(e, 1, i.view(-1, 1, 1).expand(-1, 1, 8)).squeeze(1)
        return torch.stack(outs, 1)


@architecture((6, 8))
class DifferentiableMemoryNTM(nn.Module):
    """External memory: content, shift, sharpening."""

    def __init__(self):
        super().__init__()
        self.m = weights(10, 8, k=1)
        self.k = nn.Linear(8, 8)
        self.b = nn.Linear(8, 1)
        self.e = nn.Linear(8, 8)
        self.a = nn.Linear(8, 8)
        self.sh = nn.Linear(8, 3)

    def forward(self, x):
        m = self.m.unsqueeze(0).expand(x.shape[0], -1, -1)
        out = []
        for t in range(6):
            h = x[:, t]
            w = torch.softmax(F.softplus(self.b(h)) * F.cosine_similarity(self.k(h).unsqueeze(1), m, dim=-1), -1)
            g = torch.softmax(self.sh(h), -1)
            w = sum((g[:, i : i + 1] * torch.roll(w, i - 1, 1) for i in range(3)))
            w = w**1.5
            w = w / w.sum(-1, keepdim=True)
            out.append((w.unsqueeze(1) @ m).squeeze(1))
            m = m * (1 - w.unsqueeze(-1) * torch.sigmoid(self.e(h)).unsqueeze(1)) + w.unsqueeze(-1) * torch.tanh(
                self.a(h)
            ).unsqueeze(1)
        return torch.stack(out, 1)


@architecture((12,), (12,))
class SimilarityLSHBuckets(nn.Module):
    """Buckets of locality-sensitive hashing, similarities."""

    def __init__(self):
        super().__init__()
        self.r = weights(12, 4, k=1)
        self.e = nn.Embedding(16, 5)

    def forward(self, x, y):
        b = (x @ self.r > 0).long()
        i = (b * torch.tensor([1, 2, 4, 8])).sum(-1)
        return (self.e(i), F.cosine_similarity(x, y), F.pairwise_distance(x, y))


@architecture((12,), tokens={0: 20})
class BertTiny(nn.Module):
    """Encoder over tokens with a padding mask."""

    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(20, 16)
        self.p = nn.Embedding(12, 16)
        self.n = nn.LayerNorm(16)
        self.l = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu", dropout=0.0)
        self.o = nn.Linear(16, 3)

    def forward(self, x):
        m = x == 0
        h = self.n(self.e(x) + self.p(torch.arange(12)))
        a = self.l.self_attn
        q, k, v = F.linear(h, a.in_proj_weight, a.in_proj_bias).chunk(3, -1)
        sp = lambda t: t.view(-1, 12, 2, 8).transpose(1, 2)
        A = sp(q) @ sp(k).transpose(-1, -2) / 8**0.5
        A = A.masked_fill(m[:, None, None], torch.finfo(torch.float32).min)
        h = self.l.norm1(h + a.out_proj((torch.softmax(A, -1) @ sp(v)).transpose(1, 2).reshape(-1, 12, 16)))
        h = self.l.norm2(h + self.l.linear2(F.gelu(self.l.linear1(h))))
        return self.o(torch.tanh(h[:, 0]))


@architecture((12,), tokens={0: 20})
class GPTTiny(nn.Module):
    """Decoder over tokens with tied weights."""

    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(20, 16)
        self.p = weights(12, 16)
        self.n = nn.LayerNorm(16)
        self.a = nn.Linear(16, 48)
        self.o = nn.Linear(16, 16)
        self.m = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU(approximate="tanh"), nn.Linear(32, 16))

    def forward(self, x):
        h = self.e(x) + self.p
        q, k, v = self.a(self.n(h)).chunk(3, -1)
        sp = lambda t: t.view(-1, 12, 2, 8).transpose(1, 2)
        A = sp(q) @ sp(k).transpose(-1, -2) * 8 ** (-0.5)
        mask = torch.tril(torch.ones(12, 12)).bool()
        A = torch.where(mask, A, torch.tensor(float("-inf")))
        h = h + self.o((torch.softmax(A, -1) @ sp(v)).transpose(1, 2).flatten(2))
        h = h + self.m(h)
        return h @ self.e.weight.t()


@architecture((12,), tokens={0: 20})
class LlamaRopeRMS(nn.Module):
    """Decoder with rotary positions, RMS normalisation and grouped queries."""

    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(20, 16)
        self.g = nn.Parameter(1 + torch.randn(16) * 0.1)
        self.a = nn.Linear(16, 16 + 16, bias=False)
        self.w1 = nn.Linear(16, 24, bias=False)
        self.w2 = nn.Linear(16, 24, bias=False)
        self.w3 = nn.Linear(24, 16, bias=False)

    def forward(self, x):
        h = self.e(x)
        rn = lambda t: t * torch.rsqrt(t.pow(2).mean(-1, keepdim=True) + 1e-06) * self.g
        q, k, v = self.a(rn(h)).split([16, 8, 8], -1)
        f = 1 / 100 ** (torch.arange(0, 8, 2) / 8)
        t = torch.outer(torch.arange(12.0), f)
        c, sn = (torch.cat([t, t], -1).cos(), torch.cat([t, t], -1).sin())
        rot = lambda z: torch.cat([-z[..., 4:], z[..., :4]], -1)
        q = q.view(-1, 12, 2, 8).transpose(1, 2)
        k = k.view(-1, 12, 1, 8).transpose(1, 2)
        v = v.view(-1, 12, 1, 8).transpose(1, 2)
        q = q * c + rot(q) * sn
        k = k * c + rot(k) * sn
        k = k.repeat_interleave(2, 1)
        v = v.repeat_interleave(2, 1)
        A = q @ k.transpose(-1, -2) / 8**0.5 + torch.triu(torch.full((12, 12), -1000000000.0), 1)
        h = h + (torch.softmax(A, -1) @ v).transpose(1, 2).reshape(-1, 12, 16)
        z = rn(h)
        return h + self.w3(F.silu(self.w1(z)) * self.w2(z))


@architecture((4,), tokens={0: 30})
class DLRMEmbeddings(nn.Module):
    """Embeddings of categories and their interactions."""

    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(120, 6)
        self.o = nn.Linear(6 + 6, 1)

    def forward(self, x):
        e = self.e(x + torch.arange(4) * 30)
        z = e @ e.transpose(1, 2)
        i, j = torch.tril_indices(4, 4, -1)
        return torch.sigmoid(self.o(torch.cat([z[:, i, j], e.mean(1)], 1)))


@architecture((9,), tokens={0: 12})
class EmbeddingBagMasked(nn.Module):
    """Mean of embeddings without padding."""

    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(12, 6, padding_idx=0)
        self.o = nn.Linear(6, 4)

    def forward(self, x):
        m = (x != 0).float().unsqueeze(-1)
        return self.o((self.e(x) * m).sum(1) / m.sum(1).clamp(min=1))


@architecture((6,), tokens={0: 15})
class Seq2SeqGreedy(nn.Module):
    """Sequence to sequence, greedy decoding."""

    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(15, 8)
        self.enc = nn.LSTM(8, 8, batch_first=True)
        self.dec = nn.LSTMCell(8, 8)
        self.o = nn.Linear(8, 15)

    def forward(self, x):
        _, (h, c) = self.enc(self.e(x))
        h, c = (h[0], c[0])
        t = torch.zeros(x.shape[0], dtype=torch.long)
        ls = []
        ts = []
        for _ in range(3):
            h, c = self.dec(self.e(t), (h, c))
            l = self.o(h)
            t = l.argmax(-1)
            ls.append(l)
            ts.append(t)
        return (torch.stack(ls, 1), torch.stack(ts, 1))


@architecture((16,), (4,))
class FiLMContrastive(nn.Module):
    """Modulated features against prototypes."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(16, 8)
        self.g = nn.Linear(4, 16)
        self.t = nn.Parameter(torch.tensor(2.6))
        self.p = weights(6, 8, k=1)

    def forward(self, x, c):
        g, b = self.g(c).chunk(2, 1)
        h = F.mish(self.a(x) * (1 + g) + b)
        h = h / h.norm(dim=-1, keepdim=True)
        return self.t.exp() * h @ F.normalize(self.p, dim=-1).t()


@architecture((10,), (10,))
class FactorizationDCN(nn.Module):
    """Cross network and factorisation machine."""

    def __init__(self):
        super().__init__()
        self.w = weights(20, 20)
        self.b = weights(20)
        self.v = weights(20, 4)
        self.l = nn.Linear(20, 1)

    def forward(self, a, b):
        x0 = torch.cat([a, b], 1)
        x = x0 * (x0 @ self.w + self.b) + x0
        fm = 0.5 * ((x @ self.v) ** 2 - x**2 @ self.v**2).sum(1, keepdim=True)
        return torch.sigmoid(self.l(x) + fm)
