"""Further forms of the layers of random graphs: wide kernels, weights and operands that are computed, parameters that
broadcast, states of recurrent layers, caches and masks of attention, subgraphs. See graph_forms.py."""

import numpy as np
from onnx import helper
from graph_forms import axis_of, form
from graph_operators import need, within
from graph_layers import old_batch_norm, spread


# Convolutions and pools.
@form
def conv_wide(g):
    """Kernels and strides beyond three, kernels that a file does not state, depthwise layers."""
    x = g.of_rank(g.one([3, 4, 4]), 8)
    channels, *spatial = g.shape(x)[1:]
    kernel = [g.int(1, 7) for _ in spatial]
    found = {"pads": [g.int(0, k // 2) for k in kernel * 2]}
    found["strides"] = [g.int(1, 4) for _ in spatial]
    need(all(d + found["pads"][i] + found["pads"][i + len(kernel)] >= kernel[i] for i, d in enumerate(spatial)))
    groups, out = g.one([(1, g.int(1, 5)), (channels, channels), (channels, 2 * channels)])
    weights = g.constant(g.normal(out, channels // groups, *kernel))
    g.add("Conv", x, weights, *([g.constant(g.normal(out))] if g.chance() else []), group=groups, **found)


@form
def conv_computed(g):
    """Weights from the graph."""
    x = g.of_rank(g.one([3, 4]), 8)
    channels, *spatial = g.shape(x)[1:]
    kernel = [g.int(1, min(2, d)) for d in spatial]
    out, size = g.int(1, 3), channels * int(np.prod(kernel))
    need(out * size <= 60)
    flat = g.of_rank(2, 4)
    y = g.add("MatMul", flat, g.constant(g.normal(g.shape(flat)[1], out * size)))[0]
    need(g.shape(y)[0] == 1)
    weights = g.add("Reshape", g.add("Tanh", y)[0], g.ints([out, channels, *kernel]))[0]
    bias = [g.constant(g.normal(out))] if g.chance() else []
    g.add("Conv", x, weights, *bias, pads=[g.int(0, k - 1) for k in kernel * 2])


@form
def conv_activated(g):
    """Convolution, normalisation and activation, as networks have them."""
    x = g.of_rank(4, 8)
    c, h, w = g.shape(x)[1:]
    out = g.int(1, 6)
    need(min(h, w) >= 2)
    y = g.add("Conv", x, g.constant(g.normal(out, c, 3, 3)), pads=[1, 1, 1, 1], strides=[g.int(1, 2)] * 2)[0]
    if g.chance():
        rest = [1 + g.normal(out, scale=0.2), g.normal(out), g.normal(out), np.abs(g.normal(out)) + np.float32(0.5)]
        y = g.add("BatchNormalization", y, *[g.constant(a.astype(np.float32)) for a in rest], **old_batch_norm(g))[0]
    how = g.one(["Relu", "Clip", "LeakyRelu", "HardSwish", "Sigmoid", "Elu"])
    if how == "Clip":
        need(g.opset >= 11)
        g.add(how, y, g.scalar(0.0), g.scalar(6.0))
    else:
        need(how != "HardSwish" or g.opset >= 14)
        g.add(how, y)


@form
def transposed_forms(g):
    """Outputs of a stated shape, padding by rule."""
    x = g.of_rank(g.one([3, 4]), 8)
    channels, *spatial = g.shape(x)[1:]
    kernel, strides = [g.int(1, 4) for _ in spatial], [g.int(1, 3) for _ in spatial]
    found = {"kernel_shape": kernel, "strides": strides}
    if g.chance():
        found["output_shape"] = [s * (d - 1) + k - g.int(0, k - 1) for s, d, k in zip(strides, spatial, kernel)]
    else:
        need(all(k >= s for k, s in zip(kernel, strides)))
        found["auto_pad"] = g.one(["SAME_UPPER", "SAME_LOWER", "VALID"])
    out = g.int(1, 3)
    g.add("ConvTranspose", x, g.constant(g.normal(channels, out, *kernel)), **found)


@form
def pool_wide(g):
    x = g.of_rank(g.one([3, 4, 4]), 8)
    spatial = g.shape(x)[2:]
    kernel = [g.int(1, min(7, d)) for d in spatial]
    strides = [g.int(1, 4) for _ in spatial]
    pads = [g.int(0, (k - 1) // 2) for k in kernel * 2]
    operator = g.one(["MaxPool", "AveragePool"])
    more = {"count_include_pad": g.int(0, 1)} if operator == "AveragePool" else {}
    g.add(operator, x, kernel_shape=kernel, strides=strides, pads=pads, **more)


# Products.
@form
def gemm_computed(g):
    x, y = g.of_rank(2, 4), g.of_rank(2, 4)
    need(g.shape(x)[0] == g.shape(y)[0] == 1)
    w = g.add("Transpose", within(g, y), perm=[1, 0])[0]
    c = [g.constant(g.normal(*g.one([[], [1], [g.shape(x)[1], 1], [1, g.shape(y)[1]]])))] if g.chance() else []
    g.add("Gemm", x, w, *c, transA=1, transB=1, alpha=g.real(0.5, 1.5), beta=g.real(0.5, 1.5))


@form
def gemm_added(g):
    """Something computed, or a matrix, as the third operand."""
    x = g.of_rank(2, 4)
    rows, inner = g.shape(x)
    out = g.int(2, 6)
    w = g.constant(g.normal(inner, out))
    if g.chance():
        c = g.add("Tanh", g.add("MatMul", x, g.constant(g.normal(inner, out)))[0])[0]
    else:
        c = g.constant(g.normal(*g.one([[rows, out], [rows, 1]])))
    g.add("Gemm", x, w, c, beta=g.real(0.5, 1.5))


@form
def matmul_broadcast(g):
    """Batches of matrices: constants of three axes, operands of unequal ranks."""
    x = g.any(ranks=range(2, 5), least=4)
    shape = g.shape(x)
    if g.chance():
        lead = g.one([[g.int(2, 3)], [1], shape[:-2]])
        need(len(shape) < 3 or shape[-3] == 1 or lead in ([1], shape[:-2]) or lead == [shape[-3]])
        g.add("MatMul", x, g.constant(g.normal(*lead, shape[-1], g.int(1, 5))))
    else:
        others = [n for n in g.values(ranks=range(1, 5)) if g.shape(n)[-2:][0] == shape[-1]]
        need(others)
        g.add("MatMul", x, within(g, g.one(others)))


@form
def einsum_forms(g):
    x = g.of_rank(g.one([3, 4]), 8)
    if len(g.shape(x)) == 4:
        y = within(g, x)
        g.add("Einsum", x, y, equation=g.one(["bhqd,bhkd->bhqk", "abcd,abcd->abc", "bchw,bcxw->bhx"]))
    else:
        how = g.one(["bij->bji", "bij->bi", "bij->", "bij,bik->bjk", "bij,bij->bij"])
        g.add("Einsum", *([x] if "," not in how else [x, within(g, x)]), equation=how)


# Normalisations.
@form
def norm_broadcast(g):
    """Scale and bias of fewer axes than what is normalised."""
    need(g.opset >= 17)
    x = g.any(ranks=range(2, 5), least=8)
    rank = len(g.shape(x))
    axis = g.int(1, rank - 1)
    spread(g, x, tuple(range(axis, rank)))
    need(int(np.prod(g.shape(x)[axis:])) > 1)
    shape = g.one([[1], g.shape(x)[-1:], [1] * (rank - axis)])
    bias = [g.constant(g.normal(*shape))] if g.chance() else []
    g.add("LayerNormalization", x, g.constant(1 + g.normal(*shape)), *bias, axis=axis - rank if g.chance() else axis)


@form
def norm_computed(g):
    """Scale and bias from the graph."""
    need(g.opset >= 17)
    x = g.any(ranks=range(2, 4), least=8)
    width = g.shape(x)[-1]
    need(width > 1)
    spread(g, x, (len(g.shape(x)) - 1,))
    fitting = [n for n in g.values(ranks=[1]) if g.shape(n) == [width]]
    rows = len(g.shape(x)) - 1
    starts = [g.ints([0] * rows), g.ints([1] * rows)]
    scale = g.one(fitting) if fitting else g.add("Reshape", g.add("Slice", x, *starts)[0], g.ints([width]))[0]
    g.add("LayerNormalization", x, within(g, scale), g.constant(g.normal(width)))


@form
def response_norm(g):
    """Local response normalisation of one channel, the form in which the evaluator is right."""
    x = g.of_rank(4, 8)
    need(g.shape(x)[1] == 1)
    g.add("LRN", x, size=g.one([1, 3]), alpha=g.real(0.01, 0.5), beta=g.real(0.4, 1.0), bias=g.real(1.0, 2.0))


# Resampling.
@form
def resize_forms(g):
    need(g.opset >= 11)
    x = g.of_rank(4, 8)
    shape = g.shape(x)
    how = g.one(["crop", "antialias", "axes", "policy"])
    sizes = [g.int(1, 2 * d) for d in shape[2:]]
    need(np.prod(shape[:2]) * max(np.prod(sizes), np.prod(shape[2:])) < 150)
    mode = g.one(["linear", "cubic"])
    if how == "crop":
        roi = [0, 0, g.real(0, 0.3), g.real(0, 0.3), 1, 1, g.real(0.6, 1.2), g.real(0.6, 1.2)]
        more = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": g.real(-1, 1)}
        g.add("Resize", x, g.constant(np.array(roi, dtype=np.float32)), "", g.ints(shape[:2] + sizes), mode="linear", **more)
    elif how == "antialias":
        need(g.opset >= 18)
        g.add("Resize", x, "", "", g.ints(shape[:2] + [max(1, d // 2) for d in shape[2:]]), mode=mode, antialias=1)
    elif how == "axes":
        need(g.opset >= 18)
        g.add("Resize", x, "", "", g.ints(sizes), mode=mode, axes=[2, 3])
    else:
        need(g.opset >= 18)
        policy = g.one(["not_larger", "not_smaller"])
        g.add("Resize", x, "", "", g.ints(sizes), mode="linear", axes=[2, 3], keep_aspect_ratio_policy=policy)


@form
def upsample(g):
    need(g.opset == 9)
    x = g.of_rank(4, 8)
    scales = np.array([1, 1, g.int(1, 3), g.int(1, 3)], dtype=np.float32)
    g.add("Upsample", x, g.constant(scales), mode="nearest")


@form
def sample_computed(g):
    """A grid from the graph."""
    need(g.opset >= 20)
    x = g.of_rank(4, 16)
    flat = g.of_rank(2, 4)
    need(g.shape(flat)[0] == 1)
    h, w = g.int(1, 3), g.int(1, 3)
    y = g.add("MatMul", flat, g.constant(g.normal(g.shape(flat)[1], h * w * 2)))[0]
    grid = g.add("Reshape", within(g, y, 1.1), g.ints([1, h, w, 2]))[0]
    # Nearest has jumps.
    g.add("GridSample", x, grid, mode="linear", padding_mode=g.one(["zeros", "border", "reflection"]), align_corners=g.int(0, 1))


@form
def columns(g):
    need(g.opset >= 18)
    x = g.of_rank(3, 8)
    _, depth, blocks = g.shape(x)
    block = g.one([b for b in ([1, 2], [2, 1], [2, 2], [3, 1], [1, 3]) if depth % (b[0] * b[1]) == 0] or [None])
    need(block)
    strides, pads = [g.int(1, 2), g.int(1, 2)], [g.int(0, 1) for _ in range(4)]
    pads = [min(p, block[i % 2] - 1) for i, p in enumerate(pads)]
    image = []
    rows = g.one([d for d in range(1, blocks + 1) if blocks % d == 0])
    for i, n in enumerate([rows, blocks // rows]):
        image.append((n - 1) * strides[i] + block[i] - pads[i] - pads[i + 2])
    need(min(image) > 0)
    g.add("Col2Im", x, g.ints(image), g.ints(block), strides=strides, pads=pads)


# Sequences.
@form
def recurrent_forms(g):
    """States that go in, all steps that come out, layout 1, weights without bias."""
    x = g.of_rank(3, 8)
    layout = g.int(0, 1) if g.opset >= 14 else 0
    steps = x if layout else g.add("Transpose", x, perm=[1, 0, 2])[0]
    length, size = g.shape(x)[1:]
    need(length <= 8)
    operator = g.one(["RNN", "GRU", "LSTM"])
    # The evaluator's state of layout 1 has other axes than the standard's.
    count = {"RNN": 1, "GRU": 3, "LSTM": 4}[operator]
    hidden = g.int(1, 5)
    inputs = [steps, g.constant(g.normal(1, count * hidden, size)), g.constant(g.normal(1, count * hidden, hidden))]
    inputs.append(g.constant(g.normal(1, 2 * count * hidden)) if g.chance() else "")
    inputs.append("")
    state = lambda: g.constant(g.normal(1, 1, hidden)) if g.chance() else within(
        g, g.add("Reshape", g.add("MatMul", flat, g.constant(g.normal(g.shape(flat)[1], hidden)))[0], g.ints([1, 1, hidden]))[0]
    )
    if g.chance():
        flat = g.of_rank(2, 4)
        need(g.shape(flat)[0] == 1 and layout == 0)
        inputs.append(state())
        if operator == "LSTM":
            inputs.append(state())
            if g.chance(0.3):
                inputs.append(g.constant(g.normal(1, 3 * hidden)))
    while inputs[-1] == "":
        inputs.pop()
    more = {"layout": 1} if layout else {}
    if operator == "GRU":
        more["linear_before_reset"] = g.int(0, 1)
    g.add(operator, *inputs, outputs=1, hidden_size=hidden, **more)


@form
def spectrum_forms(g):
    need(g.opset >= 20)
    x = g.of_rank(3, 8)
    shape = g.shape(x)
    how = g.one(["length", "inverse", "axis"])
    axis = g.one([1, 2])
    need(shape[axis] > 1)
    if how == "inverse":
        need(shape[2] % 2 == 0)
        y = g.add("Reshape", x, g.ints([1, shape[1], shape[2] // 2, 2]))[0]
        need(g.shape(y)[axis] > 1)
        g.add("DFT", y, "", g.constant(np.int64(axis)), inverse=1)
    else:
        y = g.add("Unsqueeze", x, g.ints([-1]))[0]
        length = g.constant(np.int64(shape[axis] + g.int(-1, 2))) if how == "length" else ""
        g.add("DFT", y, length, g.constant(np.int64(axis - (4 if how == "axis" else 0))), onesided=g.int(0, 1))


@form
def frames(g):
    need(g.opset >= 17)
    x = g.add("Reshape", g.any(least=8), g.ints([1, -1, 1]))[0]
    length = g.shape(x)[1]
    size, step = g.int(2, min(8, length)), g.int(1, 4)
    window = g.constant(np.abs(g.normal(size)) + np.float32(0.2))
    g.add("STFT", x, g.constant(np.int64(step)), window, g.constant(np.int64(size)), onesided=g.int(0, 1))


@form
def attention_forms(g):
    """Masks, caches, groups of heads, four axes, scales and caps."""
    need(g.opset >= 23)
    x = g.of_rank(3, 16)
    _, length, width = g.shape(x)
    need(length <= 12)
    heads, groups = g.one([(2, 1), (4, 2), (2, 2), (1, 1)])
    size = g.int(1, 3) * 2
    project = lambda n: g.add("MatMul", x, g.constant(g.normal(width, n * size)))[0]
    q, k, v = project(heads), project(groups), project(groups)
    more = {"q_num_heads": heads, "kv_num_heads": groups}
    if g.chance():
        split = lambda t, n: g.add("Transpose", g.add("Reshape", t, g.ints([1, length, n, size]))[0], perm=[0, 2, 1, 3])[0]
        q, k, v, more = split(q, heads), split(k, groups), split(v, groups), {}
    if g.chance(0.4):
        more["scale"] = g.real(0.2, 1.0)
    if g.chance(0.4):
        more["softcap"] = g.real(1.0, 4.0)
    inputs, outputs = [q, k, v], 1
    how = g.one(["none", "mask", "truth", "cache"])
    if how == "mask":
        inputs.append(g.constant(g.normal(length, length)))
    elif how == "truth":
        inputs.append(g.constant((g.random.random([length, length]) < 0.6) | np.eye(length, dtype=bool)))
    elif how == "cache":
        past = g.int(1, 3)
        inputs += ["", g.constant(g.normal(1, groups, past, size)), g.constant(g.normal(1, groups, past, size))]
        outputs = 3
    if how in ("none", "mask"):
        more["is_causal"] = g.int(0, 1)
    g.add("Attention", *inputs, outputs=outputs, **more)


@form
def rotary(g):
    need(g.opset >= 23)
    x = g.of_rank(3, 16)
    _, length, width = g.shape(x)
    heads = g.one([h for h in (1, 2, 3) if width % (2 * h) == 0] or [0])
    need(heads)
    half = width // heads // 2
    angles = g.normal(length, half, scale=1.0)
    table = lambda a: g.constant(a.astype(np.float32)[None])
    g.add("RotaryEmbedding", x, table(np.cos(angles)), table(np.sin(angles)), num_heads=heads, interleaved=g.int(0, 1))


# Subgraphs.
@form
def repeat(g):
    """A loop of a known number of turns with one state."""
    x = g.any(least=2)
    describe = lambda n, kind: helper.make_tensor_value_info(n, kind, None)
    i, on, off, a, b, c = [g.name("l") for _ in range(6)]
    step = g.constant(g.normal(scale=0.5))
    nodes = [
        helper.make_node("Identity", [on], [off]),
        helper.make_node("Add", [a, step], [b]),
        helper.make_node(g.one(["Tanh", "Sin", "Relu"]), [b], [c]),
    ]
    body = helper.make_graph(
        nodes, "body", [describe(i, 7), describe(on, 9), describe(a, 1)], [describe(off, 9), describe(c, 1)]
    )
    turns, always = g.constant(np.int64(g.int(1, 4))), g.constant(np.bool_(True))
    g.add_reading("Loop", [turns, always, x], [step], body=body)


@form
def scan(g):
    """A state over the rows of a value."""
    x = g.of_rank(g.one([3, 4]), 8)
    x = g.add("Reshape", x, g.ints(g.shape(x)[1:]))[0]
    rows, *rest = g.shape(x)
    need(1 < rows <= 8)
    describe = lambda n, s: helper.make_tensor_value_info(n, 1, s)
    s, r, t, u = [g.name("l") for _ in range(4)]
    nodes = [helper.make_node("Add", [s, r], [t]), helper.make_node("Tanh", [t], [u])]
    body = helper.make_graph(nodes, "body", [describe(s, rest), describe(r, rest)], [describe(t, rest), describe(u, rest)])
    start = g.constant(np.zeros(rest, dtype=np.float32))
    g.add("Scan", start, x, outputs=2, body=body, num_scan_inputs=1)


@form
def pick_column(g):
    """The last step of a sequence, as classifiers take it."""
    x = g.any(ranks=[3])
    axis = axis_of(g, x)
    g.add("Gather", x, g.constant(np.int64(-1)) if g.opset >= 11 else g.constant(np.int64(0)), axis=axis)
