"""Images, volumes and points: see architectures.py."""

import torch
import torch.nn.functional as F
from torch import nn

from architecture import architecture, weights


def sampled(x, g):
    return F.grid_sample(x, g, align_corners=True)


@architecture((3, 16, 16))
class ResNetSE(nn.Module):
    """Residual block with squeeze and excitation."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 16, 3, padding=1)
        self.b = nn.BatchNorm2d(16)
        self.c2 = nn.Conv2d(16, 16, 3, padding=1)
        self.f1 = nn.Conv2d(16, 4, 1)
        self.f2 = nn.Conv2d(4, 16, 1)
        self.l = nn.Linear(16, 10)

    def forward(self, x):
        x = F.relu(self.b(self.c(x)))
        y = self.c2(x)
        g = torch.sigmoid(self.f2(F.silu(self.f1(F.adaptive_avg_pool2d(y, 1)))))
        return self.l(F.relu(y * g + x).mean((2, 3)))


@architecture((8, 12, 12))
class DeformableConv(nn.Module):
    """Deformable convolution through grid sampling."""

    def __init__(self):
        super().__init__()
        self.o = nn.Conv2d(8, 18, 3, padding=1)
        self.w = nn.Conv2d(72, 4, 1)

    def forward(self, x):
        o = self.o(x) * 0.3
        ys = torch.linspace(-1, 1, 12)
        gy, gx = torch.meshgrid(ys, ys, indexing="ij")
        cols = []
        for k in range(9):
            ky, kx = (k // 3 - 1, k % 3 - 1)
            g = torch.stack([gx + (o[:, 2 * k] + kx) * 2 / 11, gy + (o[:, 2 * k + 1] + ky) * 2 / 11], -1)
            cols.append(sampled(x, g))
        return self.w(torch.cat(cols, 1))


@architecture((16, 8))
class DeformableAttention1D(nn.Module):
    """Attention over sampled positions of a sequence."""

    def __init__(self):
        super().__init__()
        self.off = nn.Linear(8, 4)
        self.w = nn.Linear(8, 4)
        self.v = nn.Linear(8, 8)

    def forward(self, x):
        v = self.v(x)
        pos = torch.arange(16.0).view(1, 16, 1) + 3 * torch.tanh(self.off(x))
        pos = pos.clamp(0, 15)
        lo = pos.floor()
        fr = pos - lo
        lo = lo.long()
        hi = (lo + 1).clamp(max=15)

        def g(i):
            return torch.gather(v.unsqueeze(2).expand(-1, -1, 4, -1), 1, i.unsqueeze(-1).expand(-1, -1, -1, 8))

        y = g(lo) * (1 - fr).unsqueeze(-1) + g(hi) * fr.unsqueeze(-1)
        return (y * torch.softmax(self.w(x), -1).unsqueeze(-1)).sum(2)


@architecture((2, 10, 10), (1,))
class TunableKernel(nn.Module):
    """Convolution between two kernels by a run-time parameter."""

    def __init__(self):
        super().__init__()
        self.a = weights(4, 2, 3, 3)
        self.b = weights(4, 2, 3, 3)

    def forward(self, x, t):
        w = self.a * (1 - t.view(1, 1, 1, 1)) + self.b * t.view(1, 1, 1, 1)
        return F.relu(F.conv2d(x, w, padding=1))


@architecture((1, 16, 32))
class CRNNBiLSTM(nn.Module):
    """Text recognition: convolutions, two bidirectional LSTMs."""

    def __init__(self):
        super().__init__()
        self.c = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d((2, 1)),
        )
        self.l = nn.LSTM(64, 12, num_layers=2, bidirectional=True, batch_first=True)
        self.o = nn.Linear(24, 11)

    def forward(self, x):
        h = self.c(x)
        h = h.permute(0, 3, 1, 2).flatten(2)
        return F.log_softmax(self.o(self.l(h)[0]), -1)


@architecture((3, 32, 32))
class YOLOv5Head(nn.Module):
    """Detector head with anchors."""

    def __init__(self):
        super().__init__()
        self.c = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.SiLU())
        self.d = nn.Conv2d(16, 16, 3, 2, 1)
        self.l = nn.Conv2d(16, 8, 1)
        self.h1 = nn.Conv2d(24, 21, 1)
        self.h2 = nn.Conv2d(16, 21, 1)

    def forward(self, x):
        a = self.c(x)
        b = F.silu(self.d(a))
        b = torch.cat([b, F.max_pool2d(b, 5, 1, 2)], 1)[:, :16]
        u = torch.cat([a, F.interpolate(self.l(b), scale_factor=2)], 1)
        z = []
        for y, st, g in ((self.h1(u), 4, 8), (self.h2(b), 8, 4)):
            y = y.view(-1, 3, 7, g, g).permute(0, 1, 3, 4, 2).sigmoid()
            gy, gx = torch.meshgrid(torch.arange(g), torch.arange(g), indexing="ij")
            gr = torch.stack([gx, gy], -1).float()
            xy, wh, c = y.split((2, 2, 3), 4)
            xy = (xy * 2 + gr - 0.5) * st
            wh = (wh * 2) ** 2 * torch.tensor([10.0, 13.0])
            z.append(torch.cat([xy, wh, c], 4).view(-1, 3 * g * g, 7))
        return torch.cat(z, 1)


@architecture((3, 32, 32))
class YOLOv8DFL(nn.Module):
    """Detector head with distributions of distances."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 16, 3, 4, 1)
        self.b = nn.Conv2d(16, 64, 1)
        self.k = nn.Conv2d(16, 5, 1)

    def forward(self, x):
        h = F.silu(self.c(x))
        b = self.b(h).flatten(2)
        k = self.k(h).flatten(2)
        b = (b.view(-1, 4, 16, 64).transpose(2, 1).softmax(1) * torch.arange(16.0).view(1, 16, 1, 1)).sum(1)
        gy, gx = torch.meshgrid(torch.arange(8) + 0.5, torch.arange(8) + 0.5, indexing="ij")
        an = torch.stack([gx, gy]).view(2, 64)
        lt, rb = b.chunk(2, 1)
        x1 = an - lt
        x2 = an + rb
        return torch.cat([(x1 + x2) / 2 * 4, (x2 - x1) * 4, k.sigmoid()], 1)


@architecture((1, 32, 32))
class UNetGN(nn.Module):
    """U-Net with group and instance normalisation."""

    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.SiLU())
        self.b = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.InstanceNorm2d(16, affine=True), nn.LeakyReLU(0.1))
        self.u = nn.ConvTranspose2d(16, 8, 2, 2)
        self.o = nn.Conv2d(16, 1, 1)

    def forward(self, x):
        a = self.a(x)
        b = self.b(F.max_pool2d(a, 2))
        u = self.u(b) + F.interpolate(b[:, :8], scale_factor=2, mode="bilinear", align_corners=True)
        return torch.sigmoid(self.o(torch.cat([u, a], 1)))


@architecture((3, 16, 16))
class MLPMixerPool(nn.Module):
    """Mixer of tokens and channels."""

    def __init__(self):
        super().__init__()
        self.p = nn.Conv2d(3, 12, 4, 4)
        self.t = nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16))
        self.c = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))
        self.n = nn.LayerNorm(12)
        self.m = nn.LayerNorm(12)
        self.o = nn.Linear(12, 5)

    def forward(self, x):
        h = self.p(x).flatten(2).transpose(1, 2)
        h = h + self.t(self.n(h).transpose(1, 2)).transpose(1, 2)
        h = h + self.c(self.m(h))
        return self.o(h.mean(1))


@architecture((8, 8, 8))
class SwinShift(nn.Module):
    """Shifted windows with relative positions."""

    def __init__(self):
        super().__init__()
        self.q = nn.Linear(8, 24)
        self.b = weights(49, 2)
        c = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")).flatten(1)
        r = (c[:, :, None] - c[:, None]).permute(1, 2, 0) + 3
        self.register_buffer("i", r[..., 0] * 7 + r[..., 1])

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        x = torch.roll(x, (-2, -2), (1, 2))
        w = x.view(-1, 2, 4, 2, 4, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 8)
        q, k, v = self.q(w).view(-1, 16, 3, 2, 4).permute(2, 0, 3, 1, 4)
        A = q @ k.transpose(-1, -2) * 0.5 + self.b[self.i.view(-1)].view(16, 16, 2).permute(2, 0, 1)
        w = (A.softmax(-1) @ v).transpose(1, 2).reshape(-1, 16, 8)
        x = w.view(-1, 2, 2, 4, 4, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 8, 8, 8)
        return torch.roll(x, (2, 2), (1, 2))


@architecture((3, 12, 12))
class InvolutionUnfold(nn.Module):
    """Involution."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 8, 1)
        self.k = nn.Conv2d(8, 18, 1)

    def forward(self, x):
        h = self.c(x)
        k = self.k(h).view(-1, 2, 1, 9, 12, 12)
        u = F.unfold(h, 3, padding=1).view(-1, 2, 4, 9, 12, 12)
        return (u * k).sum(3).flatten(1, 2)


@architecture((4, 8, 8))
class PixelShuffleSR(nn.Module):
    """Super-resolution by pixel shuffle, cubic resize."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(4, 12, 3, padding=1)
        self.pr = nn.PReLU(12)

    def forward(self, x):
        return (
            F.pixel_shuffle(self.pr(self.a(x)), 2)
            + F.interpolate(x[:, :3], scale_factor=2, mode="bicubic", align_corners=False),
            F.pixel_unshuffle(x, 2),
        )


@architecture((4, 9, 9))
class SpatialTransformer(nn.Module):
    """Spatial transformer."""

    def __init__(self):
        super().__init__()
        self.l = nn.Linear(4, 6)
        self.l.bias.data = torch.tensor([1.0, 0, 0, 0, 1, 0])

    def forward(self, x):
        th = self.l(x.mean((2, 3)) * 0.3).view(-1, 2, 3)
        base = torch.stack(
            [*torch.meshgrid(torch.linspace(-1, 1, 9), torch.linspace(-1, 1, 9), indexing="xy"), torch.ones(9, 9)], -1
        ).view(-1, 3)
        g = (base @ th.transpose(1, 2)).view(-1, 9, 9, 2)
        return F.grid_sample(x, g, align_corners=True, padding_mode="border")


@architecture((4, 9, 9))
class NonLocalCBAMCoord(nn.Module):
    """Spatial, coordinate and non-local attention."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(2, 1, 7, padding=3)
        self.h = nn.Conv2d(4, 4, 1)
        self.t = nn.Conv2d(4, 2, 1)
        self.p = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        a = torch.sigmoid(self.c(torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)))
        x = x * a
        xh = x.mean(3, keepdim=True)
        xw = x.mean(2, keepdim=True).permute(0, 1, 3, 2)
        y = F.hardswish(self.h(torch.cat([xh, xw], 2)))
        yh, yw = y.split([9, 9], 2)
        x = x * yh.sigmoid() * yw.permute(0, 1, 3, 2).sigmoid()
        A = torch.softmax(self.t(x).flatten(2).transpose(1, 2) @ self.p(x).flatten(2), -1)
        return x + (x.flatten(2) @ A.transpose(1, 2)).view_as(x)


@architecture((2, 3, 8, 8))
class ConvLSTMUnrolled(nn.Module):
    """Convolutional LSTM, unrolled."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3 + 4, 16, 3, padding=1)

    def forward(self, x):
        h = torch.zeros(x.shape[0], 4, 8, 8)
        c = h
        for t in range(2):
            i, f, o, g = self.c(torch.cat([x[:, t], h], 1)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return h


@architecture((3, 6, 6, 6))
class UNet3D(nn.Module):
    """U-Net over volumes."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv3d(3, 4, 3, padding=1)
        self.n = nn.InstanceNorm3d(4)
        self.d = nn.MaxPool3d(2)
        self.u = nn.ConvTranspose3d(4, 4, 2, 2)
        self.o = nn.Conv3d(8, 2, 1)

    def forward(self, x):
        a = F.leaky_relu(self.n(self.a(x)), 0.01)
        b = self.u(self.d(a))
        return torch.softmax(self.o(torch.cat([a, b], 1)), 1)


@architecture((1, 28, 28))
class LeNetMaxoutLRN(nn.Module):
    """Maxout and local response normalisation."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 8, 5)
        self.b = nn.Conv2d(4, 16, 5)
        self.o = nn.Linear(128, 10)

    def forward(self, x):
        h = F.max_pool2d(self.a(x), 2)
        h = torch.max(h[:, :4], h[:, 4:])
        h = F.local_response_norm(h, 3)
        h = F.max_pool2d(self.b(h), 2)
        h = h.view(-1, 8, 2, 4, 4).max(2)[0]
        return F.log_softmax(self.o(h.flatten(1)), 1)


@architecture((32, 3))
class PointNet(nn.Module):
    """Point cloud with a learned transform."""

    def __init__(self):
        super().__init__()
        self.t = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU())
        self.f = nn.Linear(16, 9)
        self.m = nn.Sequential(nn.Conv1d(3, 32, 1), nn.ReLU())
        self.h = nn.Linear(32, 5)

    def forward(self, x):
        x = x.transpose(1, 2)
        T = self.f(self.t(x).max(2)[0]).view(-1, 3, 3) + torch.eye(3)
        x = torch.bmm(x.transpose(1, 2), T).transpose(1, 2)
        return F.log_softmax(self.h(self.m(x).max(2)[0]), 1)


@architecture((2,))
class SIREN_NeRF(nn.Module):
    """Sines over encoded coordinates."""

    def __init__(self):
        super().__init__()
        self.register_buffer("f", 2.0 ** torch.arange(4))
        self.a = nn.Linear(16, 16)
        self.b = nn.Linear(16, 3)

    def forward(self, x):
        e = (x.unsqueeze(-1) * self.f).flatten(1)
        return torch.sigmoid(self.b(torch.sin(3 * self.a(torch.cat([e.sin(), e.cos()], -1)))))


@architecture((2,))
class HashGridNGP(nn.Module):
    """Grid of features, interpolated by computed indices."""

    def __init__(self):
        super().__init__()
        self.t = weights(64, 2, k=1)
        self.o = nn.Linear(2, 3)

    def forward(self, x):
        p = torch.sigmoid(x) * 6.99
        i = p.floor()
        f = p - i
        i = i.long()
        r = 0
        for dy in (0, 1):
            for dx in (0, 1):
                w = (f[:, :1] if dx else 1 - f[:, :1]) * (f[:, 1:] if dy else 1 - f[:, 1:])
                r = r + w * self.t[i[:, 0] + dx + (i[:, 1] + dy) * 8]
        return self.o(r)
