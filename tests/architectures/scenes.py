"""Detection, matching and dense outputs: see architectures.py."""

import torch
import torch.nn.functional as F
from torch import nn

from architecture import architecture, weights


class HardSE(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.a, self.b = nn.Conv2d(c, c // 4, 1), nn.Conv2d(c // 4, c, 1)

    def forward(self, x):
        return x * F.hardsigmoid(self.b(F.relu(self.a(F.adaptive_avg_pool2d(x, 1)))))


@architecture((3, 16, 16))
class OnceForAllMobileNetV3(nn.Module):
    """Once-for-all: inverted bottlenecks with squeeze and excitation, h-swish, a kernel cut from a larger one."""

    def __init__(self):
        super().__init__()
        self.s = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.e = nn.Sequential(nn.Conv2d(8, 24, 1, bias=False), nn.BatchNorm2d(24), nn.Hardswish())
        self.k = weights(24, 1, 7, 7)
        self.t = weights(25, 25)
        self.n = nn.BatchNorm2d(24)
        self.g = HardSE(24)
        self.p = nn.Sequential(nn.Conv2d(24, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.h = nn.Sequential(nn.Conv2d(8, 32, 1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))

    def forward(self, x):
        x = self.s(x)
        k = (self.k[:, :, 1:-1, 1:-1].reshape(24, 25) @ self.t).view(24, 1, 5, 5)
        y = F.hardswish(self.n(F.conv2d(self.e(x), k, padding=2, groups=24)))
        return self.h(x + self.p(self.g(y)))


@architecture((3, 16, 16))
class NASBenchCell(nn.Module):
    """Cell of NAS-Bench-201: every operation on its edges."""

    def __init__(self):
        super().__init__()
        block = lambda k: nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, k, padding=k // 2, bias=False), nn.BatchNorm2d(8))
        self.s = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.a, self.b, self.c, self.d = block(1), block(3), block(3), block(1)
        self.l = nn.Linear(8, 10)

    def forward(self, x):
        x0 = self.s(x)
        x1 = self.a(x0)
        x2 = F.avg_pool2d(x0, 3, 1, 1, count_include_pad=False) + self.b(x1)
        x3 = x0 + self.c(x1) + self.d(x2) + F.max_pool2d(x2, 3, 1, 1) + x1 * 0.0
        return self.l(F.adaptive_avg_pool2d(F.relu(x3), 1).flatten(1))


@architecture((3, 32, 32))
class FBNetHeads(nn.Module):
    """One trunk, heads for classes, boxes and masks; features of a region by a crop."""

    def __init__(self):
        super().__init__()
        self.t = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Hardswish(), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Conv2d(8, 16, 1))
        self.c, self.m = nn.Linear(16, 5), nn.ConvTranspose2d(16, 3, 4, 2, 1)
        self.b = nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, x):
        f = F.hardswish(self.t(x))
        region = F.interpolate(f[:, :, 3:9, 5:13], size=(7, 7), mode="bilinear", align_corners=False)
        boxes = self.b(region).exp().clamp(max=20.0)
        return F.softmax(self.c(f.mean((2, 3))), 1), F.log_softmax(self.m(f), 1), boxes


@architecture((3, 24, 24))
class SSDHeads(nn.Module):
    """Single-shot detector: boxes decoded from priors, classes, best score and its box."""

    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.ReLU6())
        self.d = nn.Sequential(nn.Conv2d(12, 12, 3, 2, 1), nn.ReLU6())
        self.l = nn.ModuleList([nn.Conv2d(12, 8, 3, padding=1) for _ in range(2)])
        self.c = nn.ModuleList([nn.Conv2d(12, 6, 3, padding=1) for _ in range(2)])
        self.register_buffer("p", torch.rand(360, 4) * 0.5 + 0.2)

    def forward(self, x):
        a = self.a(x)
        b = self.d(a)
        flat = lambda y, n: y.permute(0, 2, 3, 1).contiguous().view(y.size(0), -1, n)
        loc = torch.cat([flat(l(f), 4) for l, f in zip(self.l, (a, b))], 1)
        conf = F.softmax(torch.cat([flat(c(f), 3) for c, f in zip(self.c, (a, b))], 1), -1)
        centre = self.p[:, :2] + loc[..., :2] * 0.1 * self.p[:, 2:]
        size = self.p[:, 2:] * torch.exp(loc[..., 2:] * 0.2)
        return torch.cat([centre - size / 2, centre + size / 2], -1), conf


@architecture((1, 16, 16))
class KeypointSoftArgmax(nn.Module):
    """Heat maps of keypoints, their expected place and confidence."""

    def __init__(self):
        super().__init__()
        self.c = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 1))

    def forward(self, x):
        h = self.c(x)
        p = F.softmax(h.flatten(2) * 5, -1).view_as(h)
        r = torch.linspace(0, 1, 16)
        return torch.stack([(p.sum(2) * r).sum(-1), (p.sum(3) * r).sum(-1)], -1), h.amax((2, 3))


@architecture((3, 16, 16), (3, 16, 16))
class CorrelationWarp(nn.Module):
    """Flow: correlation of shifted features, warping by a computed grid."""

    def __init__(self):
        super().__init__()
        self.f = nn.Conv2d(3, 6, 3, 2, 1)
        self.h = nn.Conv2d(25, 2, 3, padding=1)

    def forward(self, a, b):
        a, b = F.leaky_relu(self.f(a), 0.1), F.leaky_relu(self.f(b), 0.1)
        p = F.pad(b, (2, 2, 2, 2))
        cost = torch.cat([(a * p[:, :, i : i + 8, j : j + 8]).mean(1, keepdim=True) for i in range(5) for j in range(5)], 1)
        flow = self.h(cost)
        y, x = torch.meshgrid(torch.linspace(-1, 1, 8), torch.linspace(-1, 1, 8), indexing="ij")
        grid = torch.stack([x, y]) + flow * 2 / 7
        return flow, F.grid_sample(b, grid.permute(0, 2, 3, 1), padding_mode="zeros", align_corners=True)


@architecture((8, 6, 6))
class CARAFEUpsample(nn.Module):
    """Content-aware reassembly: kernels by softmax, neighbourhoods by unfold."""

    def __init__(self):
        super().__init__()
        self.c, self.e = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 36, 3, padding=1)

    def forward(self, x):
        k = F.softmax(F.pixel_shuffle(self.e(self.c(x)), 2), 1)
        u = F.unfold(x, 3, padding=1).view(-1, 72, 6, 6)
        u = F.interpolate(u, scale_factor=2, mode="nearest").view(-1, 8, 9, 12, 12)
        return (u * k.unsqueeze(1)).sum(2)


@architecture((8, 8, 8))
class DynamicConvAttention(nn.Module):
    """Convolution whose kernel is a mixture by attention of the image, depthwise."""

    def __init__(self):
        super().__init__()
        self.r = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))
        self.w, self.b = weights(3, 8, 1, 3, 3), weights(3, 8)

    def forward(self, x):
        a = F.softmax(self.r(x) / 2, 1)
        w = (a.view(3, 1, 1, 1, 1) * self.w).sum(0)
        return F.conv2d(x, w, (a @ self.b).view(-1), padding=1, groups=8)


@architecture((8, 8, 8))
class MobileViTBlock(nn.Module):
    """Patches unfolded, attended to, folded back."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(8, 8, 3, padding=1)
        self.t = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu", norm_first=True)
        self.o = nn.Conv2d(16, 8, 1)

    def forward(self, x):
        y = self.a(x)
        y = y.view(-1, 8, 4, 2, 4, 2).permute(0, 3, 5, 2, 4, 1).reshape(-1, 16, 8)
        y = self.t(y).reshape(-1, 2, 2, 4, 4, 8).permute(0, 5, 3, 1, 4, 2).reshape(-1, 8, 8, 8)
        return F.silu(self.o(torch.cat([x, y], 1)))


@architecture((3, 16, 16))
class ShuffleGhostECA(nn.Module):
    """Channel shuffle, ghost features, attention of channels by a 1-D convolution, SimAM."""

    def __init__(self):
        super().__init__()
        self.s = nn.Conv2d(3, 8, 3, 2, 1)
        self.b = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4))
        self.g = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.e = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.l = nn.Linear(16, 6)

    def forward(self, x):
        x = F.relu(self.s(x))
        a, b = x.chunk(2, 1)
        x = torch.cat([a, self.b(b)], 1)
        x = x.view(-1, 2, 4, 8, 8).transpose(1, 2).reshape(-1, 8, 8, 8)
        x = torch.cat([x, self.g(x)], 1)
        x = x * torch.sigmoid(self.e(x.mean((2, 3)).unsqueeze(1))).transpose(1, 2).unsqueeze(-1)
        d = (x - x.mean((2, 3), keepdim=True)).pow(2)
        x = x * torch.sigmoid(d / (4 * (d.sum((2, 3), keepdim=True) / 63 + 1e-4)) + 0.5)
        return self.l(x.mean((2, 3)))


@architecture((3, 16, 16))
class BiFPNFusion(nn.Module):
    """Pyramid with fast normalised fusion, anti-aliased pooling, nearest upsampling."""

    def __init__(self):
        super().__init__()
        self.c = nn.ModuleList([nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)])
        self.w = nn.Parameter(torch.rand(2, 2))
        self.register_buffer("k", (torch.tensor([1.0, 2, 1])[:, None] * torch.tensor([1.0, 2, 1]) / 16).expand(8, 1, 3, 3).clone())

    def forward(self, x):
        a = F.silu(self.c[0](x))
        b = F.silu(self.c[1](a))
        c = F.silu(self.c[2](b))
        w = F.relu(self.w)
        w = w / (w.sum(1, keepdim=True) + 1e-4)
        b = w[0, 0] * b + w[0, 1] * F.interpolate(c, scale_factor=2, mode="nearest")
        down = F.conv2d(F.pad(a, (1, 1, 1, 1), mode="reflect"), self.k, stride=2, groups=8)
        return w[1, 0] * b + w[1, 1] * down, F.avg_pool2d(c, 3, 2, 1, ceil_mode=True)


@architecture((4, 3, 12, 12))
class TemporalShift(nn.Module):
    """Frames share a network; some channels shift in time."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.l = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.Linear(8, 4)

    def forward(self, x):
        h = F.relu(self.a(x.flatten(0, 1))).view(-1, 4, 8, 6, 6)
        out = torch.zeros_like(h)
        out[:, :-1, :2] = h[:, 1:, :2]
        out[:, 1:, 2:4] = h[:, :-1, 2:4]
        out[:, :, 4:] = h[:, :, 4:]
        h = F.relu(self.b(out.flatten(0, 1)))
        return self.l(h.mean((2, 3)).view(-1, 4, 8)).mean(1)


@architecture((1, 16, 16))
class VQVAEDecode(nn.Module):
    """Autoencoder with a codebook between: distances, index, embedding, transposed convolutions."""

    def __init__(self):
        super().__init__()
        self.e = nn.Sequential(nn.Conv2d(1, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 6, 4, 2, 1))
        self.k = nn.Embedding(12, 6)
        self.d = nn.Sequential(nn.ConvTranspose2d(6, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1), nn.Tanh())

    def forward(self, x):
        z = self.e(x).permute(0, 2, 3, 1)
        f = z.reshape(-1, 6)
        d = f.pow(2).sum(1, keepdim=True) - 2 * f @ self.k.weight.t() * 3 + self.k.weight.pow(2).sum(1)
        i = d.argmin(1)
        return self.d(self.k(i).view(-1, 4, 4, 6).permute(0, 3, 1, 2)), d


@architecture((1, 12, 12))
class WeightStandardConvNeXt(nn.Module):
    """Standardised weights, channels-first layer normalisation, layer scale, GRN."""

    def __init__(self):
        super().__init__()
        self.w = weights(8, 1, 3, 3)
        self.d = nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.g, self.b, self.s = nn.Parameter(torch.rand(8) + 0.5), weights(8), nn.Parameter(torch.rand(8))
        self.p, self.q = nn.Linear(8, 32), nn.Linear(32, 8)
        self.gamma, self.beta = weights(1, 1, 1, 32), weights(1, 1, 1, 32)

    def forward(self, x):
        v, m = torch.var_mean(self.w, (1, 2, 3), keepdim=True)
        x = F.conv2d(x, (self.w - m) / torch.sqrt(v + 1e-5), padding=1)
        y = self.d(x)
        u = y.mean(1, keepdim=True)
        y = (y - u) / torch.sqrt((y - u).pow(2).mean(1, keepdim=True) + 1e-6)
        y = self.g[:, None, None] * y + self.b[:, None, None]
        y = F.gelu(self.p(y.permute(0, 2, 3, 1)))
        n = torch.norm(y, p=2, dim=(1, 2), keepdim=True)
        y = self.gamma * (y * (n / (n.mean(-1, keepdim=True) + 1e-6))) + self.beta + y
        return x + (self.s * self.q(y)).permute(0, 3, 1, 2)


@architecture((2, 12, 12))
class SpikingConvNet(nn.Module):
    """Spiking convolutions over four steps of a constant current."""

    def __init__(self):
        super().__init__()
        self.c, self.l = nn.Conv2d(2, 6, 3, 2, 1), nn.Linear(216, 5)

    def forward(self, x):
        current, v, u, total = self.c(x), 0.0, 0.0, 0.0
        for _ in range(4):
            v = 0.7 * v + current
            s = torch.gt(v, 0.6).float()
            v = v - s * 0.6
            u = 0.8 * u + self.l(s.flatten(1))
            total = total + u
        return total / 4
