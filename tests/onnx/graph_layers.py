"""Layers of random graphs: convolutions, pools, products, normalisations, recurrent layers, resampling. See graphs.py.

The evaluator of onnx 1.23 is wrong in some forms, in which ONNX Runtime differs from it. They are left out here, and the
standard's node tests hold them: LRN of several channels, maxima over other than two spatial axes, `SAME_LOWER` with strides,
`ceil_mode` with padding, LpNormalization with `p` 1, reversed recurrent layers, negative indices of GatherElements, biases of
ConvTranspose in groups, cubic GridSample with `border`, cubic Resize with `exclude_outside`, linear with `half_pixel_symmetric`.
"""

import numpy as np
from onnx import helper
from graph_operators import TABLE, axes_of, builder, need


def window(g, spatial, dilates=True, padded=True):
    """Attributes of a sliding window."""
    kernel = [g.int(1, 3) for _ in spatial]
    found = {"kernel_shape": kernel}
    if g.chance():
        found["strides"] = [g.int(1, 2) for _ in spatial]
    if dilates and g.chance(0.3):
        found["dilations"] = [g.int(1, 2) for _ in spatial]
    if not padded:
        return found
    how = g.one(["pads", "pads", "none", "SAME_UPPER", "SAME_LOWER", "VALID"])
    if how == "pads":
        found["pads"] = [g.int(0, k - 1) for k in kernel * 2]
    dilated = [d * (k - 1) + 1 for k, d in zip(kernel, found.get("dilations", [1] * len(kernel)))]
    added = [sum(found.get("pads", [0] * 6)[i :: len(kernel)]) for i in range(len(kernel))]
    need(all(d <= extent + more for d, extent, more in zip(dilated, spatial, added)))
    if how != "none" and how != "pads" and "dilations" not in found and (how != "SAME_LOWER" or "strides" not in found):
        # Windows smaller than their stride would need less than no padding.
        need(how == "VALID" or all(k >= s for k, s in zip(kernel, found.get("strides", kernel))))
        found["auto_pad"] = how
    return found


@builder
def conv(g):
    x = g.of_rank(g.one([3, 4, 4, 4, 5]), 8)
    channels, *spatial = g.shape(x)[1:]
    three = len(spatial) == 3
    groups = 1 if three else g.one([d for d in range(1, channels + 1) if channels % d == 0])
    out = groups * g.int(1, 3)
    found = window(g, spatial)
    weights = g.constant(g.normal(out, channels // groups, *found["kernel_shape"]))
    g.add("Conv", x, weights, *([g.constant(g.normal(out))] if g.chance() else []), group=groups, **found)


@builder
def conv_transpose(g):
    x = g.of_rank(g.one([3, 4, 4, 5]), 8)
    channels, *spatial = g.shape(x)[1:]
    groups = 1 if len(spatial) == 3 else g.one([d for d in (1, 2, channels) if channels % d == 0])
    found = window(g, spatial, padded=False)
    if g.chance():
        found["pads"] = [g.int(0, k - 1) for k in found["kernel_shape"] * 2]
    if "strides" in found and g.chance():
        found["output_padding"] = [g.int(0, s - 1) for s in found["strides"]]
    out = g.int(1, 3)
    weights = g.constant(g.normal(channels, out, *found["kernel_shape"]))
    bias = [g.constant(g.normal(out * groups))] if g.chance() else []
    need(groups == 1 or not bias)
    g.add("ConvTranspose", x, weights, *bias, group=groups, **found)


def pool(operator):
    def build(g):
        x = g.of_rank(g.one([3, 4, 4, 5]), 8)
        spatial = g.shape(x)[2:]
        found = window(g, spatial, dilates=operator == "MaxPool" or (operator == "AveragePool" and g.opset >= 19))
        if operator == "LpPool":
            found["p"] = g.int(1, 2)
            found.pop("auto_pad", None)
        elif "auto_pad" not in found and "pads" not in found and g.chance(0.4):
            found["ceil_mode"] = 1
        if operator == "AveragePool":
            found["count_include_pad"] = g.int(0, 1)
        g.add(operator, x, **found)

    return build


for name in ("MaxPool", "AveragePool", "LpPool"):
    TABLE[name] = pool(name)


@builder
def pool_and_back(g):
    x = g.of_rank(g.one([3, 4]), 16)
    spatial = g.shape(x)[2:]
    need(all(d % 2 == 0 for d in spatial))
    g.apart(g.add("Reshape", x, g.ints([1, -1]))[0], 1, 1e-4)
    kernel = [2] * len(spatial)
    y, at = g.add("MaxPool", x, outputs=2, kernel_shape=kernel, strides=kernel)
    g.add("MaxUnpool", g.add("Tanh", y)[0], at, kernel_shape=kernel, strides=kernel)


@builder
def global_pool(g):
    operator = g.one(["GlobalAveragePool", "GlobalMaxPool"])
    g.add(operator, g.of_rank(4 if operator == "GlobalMaxPool" else g.one([3, 4, 5]), 4))


@builder
def gemm(g):
    x = g.of_rank(2, 4)
    rows, inner = g.shape(x)
    out, flip = g.int(1, 8), g.int(0, 1)
    first = g.int(0, 1)
    inner = rows if first else inner
    w = g.constant(g.normal(*([out, inner] if flip else [inner, out])))
    c = [g.constant(g.normal(*g.one([[out], [1, out], [1], []])))] if g.chance(0.7) else []
    g.add("Gemm", x, w, *c, transA=first, transB=flip, alpha=g.real(0.5, 1.5), beta=g.real(0.5, 1.5))


@builder
def matmul(g):
    x = g.any(ranks=range(1, 5), least=2)
    shape, out = g.shape(x), g.int(1, 8)
    g.add("MatMul", x, g.constant(g.normal(shape[-1], out)) if g.chance(0.8) else g.constant(g.normal(shape[-1])))


@builder
def matmul_of_constant(g):
    x = g.any(ranks=range(1, 5), least=2)
    shape = g.shape(x)
    inner = shape[-2] if len(shape) > 1 else shape[-1]
    g.add("MatMul", g.constant(g.normal(g.int(1, 6), inner)), x)


@builder
def matmul_of_two(g):
    x = g.any(ranks=range(2, 5), least=2)
    rank = len(g.shape(x))
    perm = list(range(rank - 2)) + [rank - 1, rank - 2]
    t = g.add("Transpose", g.add("Tanh", x)[0], perm=perm)[0]
    g.add("MatMul", *([x, t] if g.chance() else [t, x]))


@builder
def einsum(g):
    x = g.of_rank(3, 8)
    _, m, k = g.shape(x)
    n = g.int(1, 5)
    equation, shape = g.one(
        [("bmk,kn->bmn", [k, n]), ("bmk,mn->bkn", [m, n]), ("bmk,nk->nbm", [n, k]), ("bmk,mk->bm", [m, k]), ("bmk,k->bm", [k])]
    )
    g.add("Einsum", x, g.constant(g.normal(*shape)), equation=equation)


# Normalisations.
@builder
def batch_norm(g):
    x = g.of_rank(g.one([2, 3, 4, 5]), 2)
    c = g.shape(x)[1]
    need(len(g.shape(x)) > 1)
    rest = [1 + g.normal(c), g.normal(c), g.normal(c), np.abs(g.normal(c)) + np.float32(0.5)]
    old = old_batch_norm(g)
    g.add("BatchNormalization", x, *[g.constant(a.astype(np.float32)) for a in rest], epsilon=g.one([1e-5, 1e-3]), **old)


def old_batch_norm(g):
    """Before opset 14 the evaluator moves the statistics towards the sample's, unless the momentum is 1."""
    return {"momentum": 1.0} if g.opset < 14 else {}


@builder
def layer_norm(g):
    need(g.opset >= 17)
    x = g.any(ranks=range(2, 5), least=8)
    rank = len(g.shape(x))
    axis = g.int(1, rank - 1)
    shape = g.shape(x)[axis:]
    need(int(np.prod(shape)) > 1)
    spread(g, x, tuple(range(axis, rank)))
    bias = [g.constant(g.normal(*shape))] if g.chance() else []
    g.add("LayerNormalization", x, g.constant(1 + g.normal(*shape)), *bias, axis=axis, epsilon=g.one([1e-5, 1e-2]))


def spread(g, x, axes):
    """Rows of nearly equal elements are all rounding."""
    need(all(float(a.std(axis=axes).min()) > 0.02 for a in g.arrays[x]))


@builder
def instance_norm(g):
    x = g.of_rank(g.one([3, 4, 5]), 8)
    c = g.shape(x)[1]
    spread(g, x, tuple(range(2, len(g.shape(x)))))
    g.add("InstanceNormalization", x, g.constant(1 + g.normal(c)), g.constant(g.normal(c)))


@builder
def group_norm(g):
    need(g.opset >= 21)
    x = g.of_rank(g.one([3, 4]), 8)
    c = g.shape(x)[1]
    groups = g.one([d for d in range(1, c + 1) if c % d == 0])
    need(all(float(a.reshape(groups, -1).std(1).min()) > 0.02 for a in g.arrays[x]))
    g.add("GroupNormalization", x, g.constant(1 + g.normal(c)), g.constant(g.normal(c)), num_groups=groups)


@builder
def rms_norm(g):
    need(g.opset >= 23)
    x = g.any(ranks=range(2, 5), least=8)
    axis = g.int(1, len(g.shape(x)) - 1)
    need(all(float((a * a).mean(tuple(range(axis, a.ndim))).min()) > 1e-3 for a in g.arrays[x]))
    g.add("RMSNormalization", x, g.constant(1 + g.normal(*g.shape(x)[axis:])), axis=axis)


@builder
def lp_norm(g):
    x = g.any(ranks=range(1, 5), least=4)
    axis = g.int(0, len(g.shape(x)) - 1)
    need(all(float(np.abs(a).sum(axis).min()) > 0.05 for a in g.arrays[x]))
    g.add("LpNormalization", x, axis=axis, p=2)


@builder
def mean_variance(g):
    x = g.of_rank(4, 8)
    axes = g.one([[0, 2, 3], [2, 3], [1, 2, 3]])
    spread(g, x, tuple(axes))
    g.add("MeanVarianceNormalization", x, axes=axes)


# Resampling.
@builder
def resize(g):
    x = g.of_rank(g.one([3, 4, 4]), 8)
    shape = g.shape(x)
    mode = g.one(["nearest", "linear", "cubic"] if len(shape) == 4 else ["nearest", "linear"])
    found = {
        "mode": mode,
        "coordinate_transformation_mode": g.one(["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]),
    }
    if mode == "nearest":
        found["nearest_mode"] = g.one(["floor", "round_prefer_floor", "ceil", "round_prefer_ceil"])
    elif mode == "cubic" and g.chance():
        found["cubic_coeff_a"] = g.one([-0.5, -0.75])
    # The evaluator takes a millisecond for an element.
    sizes = shape[:2] + [g.int(1, 2 * d) for d in shape[2:]]
    scales = [1.0, 1.0] + [g.one([0.5, 1.0, 1.5, 2.0, 3.0]) for _ in shape[2:]]
    need(max(np.prod(sizes), np.prod(shape) * np.prod(scales)) < 150)
    # To one element the standard reads the first, the evaluator half an element before it.
    need(mode != "cubic" or found["coordinate_transformation_mode"] != "pytorch_half_pixel" or 1 not in sizes[2:])
    need(all(d * s >= 2 for d, s in zip(shape[2:], scales[2:])) or mode != "cubic")
    if g.chance():
        g.add("Resize", x, "", "", g.ints(sizes), **found)
    else:
        g.add("Resize", x, "", g.constant(np.array(scales, dtype=np.float32)), **found)


@builder
def grid_sample(g):
    need(g.opset >= 20)
    x = g.of_rank(4, 16)
    out = [g.int(1, 4), g.int(1, 4)]
    grid = g.constant(g.random.uniform(-1.2, 1.2, [1, *out, 2]).astype(np.float32))
    mode, padding = g.one(["linear", "nearest", "cubic"]), g.one(["zeros", "border", "reflection"])
    align = g.int(0, 1)
    need((mode, padding) != ("cubic", "border"))
    g.add("GridSample", x, grid, mode=mode, padding_mode=padding, align_corners=align)


@builder
def affine_grid(g):
    need(g.opset >= 20)
    x = g.of_rank(2, 6)
    theta = g.add("Reshape", g.add("Gemm", x, g.constant(g.normal(g.shape(x)[1], 6)))[0], g.ints([1, 2, 3]))[0]
    g.add("AffineGrid", theta, g.ints([1, 1, g.int(2, 4), g.int(2, 4)]), align_corners=g.int(0, 1))


@builder
def col2im(g):
    need(g.opset >= 18)
    x = g.of_rank(3, 8)
    _, columns, blocks = g.shape(x)
    need(columns % 4 == 0)
    image = [g.int(1, 4) + 1, 1 + blocks]
    need((image[0] - 1) * (image[1] - 1) == blocks)
    g.add("Col2Im", x, g.ints(image), g.ints([2, 2]))


@builder
def center_crop_pad(g):
    need(g.opset >= 18)
    x = g.any(ranks=range(1, 5))
    axes = axes_of(g, x)
    wanted = [g.int(1, g.shape(x)[a] + 2) for a in axes]
    y = g.add("CenterCropPad", x, g.ints(wanted), axes=axes)[0]
    need([g.shape(y)[a] for a in axes] == wanted)


@builder
def determinant(g):
    x = g.of_rank(3, 4)
    need(g.shape(x)[-1] == g.shape(x)[-2] <= 4)
    g.add("Det", x)


# Sequences.
@builder
def recurrent(g):
    x = g.of_rank(3, 8)
    steps = g.add("Transpose", x, perm=[1, 0, 2])[0]
    length, _, size = g.shape(steps)
    need(length <= 12)
    operator = g.one(["RNN", "GRU", "LSTM"])
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[operator]
    hidden = g.int(1, 6)
    inputs = [steps, g.constant(g.normal(1, gates * hidden, size)), g.constant(g.normal(1, gates * hidden, hidden))]
    if g.chance():
        inputs.append(g.constant(g.normal(1, 2 * gates * hidden)))
    more = {"linear_before_reset": g.int(0, 1)} if operator == "GRU" else {}
    _, last, *_ = g.add(operator, *inputs, outputs=2, hidden_size=hidden, **more)
    need(g.shape(last) == [1, 1, hidden])


@builder
def spectrum(g):
    need(g.opset >= 20)
    x = g.of_rank(3, 8)
    need(g.shape(x)[1] > 1)
    y = g.add("Unsqueeze", x, g.ints([-1]))[0]
    g.add("DFT", y, "", g.constant(np.int64(1)), onesided=g.int(0, 1))


@builder
def attention(g):
    need(g.opset >= 23)
    x = g.of_rank(3, 16)
    _, length, width = g.shape(x)
    heads = g.one([h for h in (1, 2, 4) if width % h == 0])
    project = lambda: g.add("MatMul", x, g.constant(g.normal(width, width)))[0]
    g.add("Attention", project(), project(), project(), q_num_heads=heads, kv_num_heads=heads, is_causal=g.int(0, 1))


# Control flow that is known while importing.
@builder
def branch(g):
    x = g.any()
    make = lambda operator, name: helper.make_graph(
        [helper.make_node(operator, [x], [name])], name, [], [helper.make_tensor_value_info(name, 1, None)]
    )
    first, second = g.one(["Tanh", "Sin"]), g.one(["Neg", "Relu"])
    choice = g.constant(np.bool_(g.chance()))
    g.add_reading("If", [choice], [x], then_branch=make(first, g.name("b")), else_branch=make(second, g.name("b")))
