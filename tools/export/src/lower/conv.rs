//! Collects the forms of convolutions and fully connected layers. [`crate::choose`] takes the best one once the
//! workspace is known.

use std::rc::Rc;

use offshoot::format::codec::Record;
use offshoot::format::record::{self, Window};
use offshoot_ir::{Activation, DType, Graph, Node, ValueId};

use super::Context;
use crate::draft::{Conv, Step};
use crate::forms::apart::{Apart, Part};
use crate::forms::channel_planar::ChannelPlanar;
use crate::forms::huffman::Huffman;
use crate::forms::odd;
use crate::forms::packed::PackedTiles;
use crate::forms::parameters::{
    Lowering, Order, Plain, Quantised, Reason, clamp_f32, constant_f32, nhwc, to_u16, to_u32,
};
use crate::forms::plain::{self, PlainForm};
use crate::forms::requant::OVERFLOW;
use crate::forms::row_major::RowMajor;
use crate::forms::single_multiply::SingleMultiply;
use crate::forms::sparse::{self, Sparse};
use crate::forms::tiled::Tiled;
use crate::forms::weight_only::WeightOnly;
use crate::forms::weight_shared::WeightShared;
use crate::forms::wholes::Role;
use crate::forms::winograd::Winograd;
use crate::forms::{ConvForm, Layer, Shared};
use crate::lowered::Tensor;
use crate::options::Prefer;

/// Why the int8 kernels cannot use weights and bias; `None` if they can.
pub(super) fn int8_obstacle(graph: &Graph, node: &Node, x: &Tensor, y: &Tensor) -> Option<Reason> {
    let w = graph.value(node.inputs[1]);
    let Some(quant) = w.quant.as_ref().filter(|_| w.dtype == DType::I8) else {
        return Some("the weights are not int8".into());
    };
    if quant.zero_point.iter().any(|&z| z != 0) {
        return Some("the weights have a zero point other than 0".into());
    }
    let outer = matches!(quant.axis, None | Some(0));
    if !outer && quant.scale.len() > 1 {
        return Some("the weights' scales are not along the output channels".into());
    }
    let bias = node.inputs.get(2).map(|&b| graph.value(b));
    if bias.is_some_and(|b| b.dtype != DType::I32) {
        return Some("the bias is not int32".into());
    }
    let channels = y.shape.last().copied().unwrap_or(1);
    // Any other error would come up in float32 too.
    let read = Quantised::read(graph, [x, y], &node.inputs[1..], channels);
    read.err().filter(|reason| reason == OVERFLOW)
}

/// The forms of one layer. The first one is the reference that the others must beat.
#[derive(Default)]
struct Forms {
    forms: Vec<Box<dyn ConvForm>>,
    sparse: Vec<(usize, &'static str)>,
    density: f64,
    /// Why the fast kernels cannot compute the layer, or some of its channels.
    obstacle: Option<Reason>,
}

impl Forms {
    fn push(&mut self, form: impl ConvForm + 'static) {
        self.forms.push(Box::new(form));
    }

    /// Adds the plain form, which can hold every layer. If several networks share a file, a layer with a tiled form
    /// leaves it out, since weights are shared in tiles.
    fn push_plain(&mut self, role: Role, plain: PlainForm) {
        if role == Role::Alone || self.forms.is_empty() {
            self.push(plain);
        }
    }

    fn push_some(&mut self, form: Option<impl ConvForm + 'static>) {
        self.forms.extend(form.map(|form| Box::new(form) as Box<dyn ConvForm>));
    }
}

/// A convolution of the graph.
struct Request<'r> {
    x: &'r Tensor,
    y: &'r Tensor,
    /// Weights, and bias if there is one.
    parameters: &'r [ValueId],
    window: Window,
    activation: Activation,
}

impl Request<'_> {
    /// The plain form.
    fn plain(
        &self,
        c: &Context<'_>,
        record: impl FnOnce(record::Arith) -> Lowering<Record>,
        order: Order,
        macs_of_weights: impl FnOnce(u64) -> u64,
    ) -> Lowering<PlainForm> {
        let channels = self.y.channels(1);
        let both = [self.x, self.y];
        let activation = self.activation;
        let plain = Plain::read(c.graph, both, self.parameters, channels, activation, order)?;
        let macs = macs_of_weights(plain.weights as u64);
        Ok(PlainForm {
            record: record(plain.arith)?,
            plain: Rc::new(plain),
            channels,
            outputs: self.y.len() as u64,
            macs,
        })
    }

    /// A float32 layer in its form with integer weights, if it has one and that is worth it; `input` is
    /// [`Layer::input`].
    fn weight_only(&self, c: &Context<'_>, input: [u16; 4], groups: usize) -> Lowering<Option<WeightOnly>> {
        let (channels, outputs) = (self.y.channels(1), self.y.len());
        // With few pixels, unpacking would take longer than all else.
        let few = outputs / channels.max(1) < 8;
        let alone = c.role == Role::Alone && !c.learns;
        if !c.arrange || self.x.is_i8() || !alone || (c.prefer == Prefer::Speed && few) {
            return Ok(None);
        }
        let (Ok(out_c), Ok(groups)) = (u16::try_from(channels), u16::try_from(groups)) else {
            return Ok(None);
        };
        let weights = constant_f32(c.graph, self.parameters[0])?;
        let bias = match self.parameters.get(1) {
            Some(bias) => constant_f32(c.graph, *bias)?,
            None => vec![0.0; channels],
        };
        let [n, h, w, in_c] = input;
        let [k_h, k_w] = self.window.kernel.map(usize::from);
        let taps = k_h * k_w * usize::from(in_c) / usize::from(groups).max(1);
        if bias.len() != channels || weights.len() != channels * taps {
            return Ok(None);
        }
        let record = record::ConvWeightOnly {
            src: 0,
            dst: 0,
            scratch: 0,
            n,
            h,
            w,
            c: in_c,
            out_c,
            groups,
            window: self.window.into(),
            clamp: clamp_f32(self.activation),
            bits: 8,
            block: 1,
            offsets: false,
            blob: 0,
        };
        Ok(WeightOnly::new(record, &weights, &bias, [(outputs * taps) as u64, outputs as u64]))
    }

    fn is_i8(&self) -> bool {
        self.x.is_i8() && self.y.is_i8()
    }

    fn layer(&self, c: &Context<'_>, input: [u16; 4]) -> Lowering<Layer> {
        let channels = self.y.channels(0);
        let q = Quantised::read(c.graph, [self.x, self.y], self.parameters, channels)?;
        Ok(Layer {
            x: self.x.clone(),
            y: self.y.clone(),
            input,
            window: self.window,
            activation: self.activation,
            q,
            learns: c.learns,
        })
    }
}

/// Convolution: 1×1 as fully connected, one group per channel as depthwise, any other as a convolution.
pub(super) fn conv2d(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    parameters: &[ValueId],
    window: Window,
    groups: usize,
    activation: Activation,
) -> Lowering {
    let request = Request { x, y, parameters, window, activation };
    let input = nhwc(x)?;
    let [n, h, w, in_c] = input;
    let (channels, out_c) = (usize::from(in_c), y.channels(0));
    let pointwise = window.kernel == [1, 1] && window.stride == [1, 1] && window.pad == [0; 4];
    if pointwise && groups == 1 {
        return rows(c, &request);
    }
    let taps = usize::from(window.kernel[0]) * usize::from(window.kernel[1]);
    let depthwise = groups == channels && channels > 1;
    let mut forms = Forms::default();
    if let Some(form) = request.weight_only(c, input, groups)? {
        forms.push(form);
        step(c, x, y, forms);
        return Ok(());
    }
    if depthwise {
        depthwise_forms(c, &request, input, &mut forms)?;
        let multiplier = to_u16(out_c / channels, "the depth multiplier")?;
        let window = window.into();
        let record = |arith| {
            let r =
                record::Depthwise { src: 0, dst: 0, n, h, w, c: in_c, multiplier, window, arith, blob: 0 };
            Ok(Record::Depthwise(r))
        };
        let macs = (y.len() * taps) as u64;
        // It cannot run in-place, which costs arena that only `speed` pays.
        let plain = request.plain(c, record, Order::Planar, |_| macs)?;
        if c.prefer == Prefer::Speed || forms.forms.is_empty() {
            forms.push_plain(c.role, plain);
        }
    } else {
        if groups == 1 {
            conv_forms(c, &request, input, &mut forms)?;
        } else {
            forms.obstacle = Some(format!("{groups} groups of several channels"));
        }
        let record = |arith| {
            Ok(Record::Conv2d(record::Conv2d {
                src: 0,
                dst: 0,
                n,
                h,
                w,
                c: in_c,
                out_c: to_u16(out_c, "the output channel count")?,
                groups: to_u16(groups, "the group count")?,
                window: window.into(),
                arith,
                blob: 0,
            }))
        };
        let macs = (y.len() * taps * (channels / groups.max(1))) as u64;
        forms.push_plain(c.role, request.plain(c, record, Order::Same, |_| macs)?);
    }
    step(c, x, y, forms);
    Ok(())
}

/// Fully connected over the last axis.
pub(super) fn fully_connected(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    parameters: &[ValueId],
    activation: Activation,
) -> Lowering {
    let window = Window { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], pad: [0; 4] };
    rows(c, &Request { x, y, parameters, window, activation })
}

/// A layer in which every output pixel reads one input pixel.
fn rows(c: &mut Context<'_>, request: &Request<'_>) -> Lowering {
    let (x, y) = (request.x, request.y);
    let (in_c, out_c) = (x.channels(1), y.channels(1));
    let mut forms = Forms::default();
    match (u16::try_from(x.len() / in_c.max(1)), u16::try_from(in_c)) {
        (Ok(rows), Ok(in_c)) => {
            let input = [1, 1, rows, in_c];
            if let Some(form) = request.weight_only(c, input, 1)? {
                forms.push(form);
                step(c, x, y, forms);
                return Ok(());
            }
            conv_forms(c, request, input, &mut forms)?;
        }
        _ => forms.obstacle = Some("more than 65,535 rows or inputs".into()),
    }
    let count = y.len() / out_c.max(1);
    let record = |arith| {
        let (rows, in_c) = (to_u32(count, "the row count")?, to_u32(in_c, "the input width")?);
        let out_c = to_u32(out_c, "the output width")?;
        Ok(Record::FullyConnected(record::FullyConnected {
            src: 0,
            dst: 0,
            rows,
            in_c,
            out_c,
            arith,
            blob: 0,
        }))
    };
    let plain = request.plain(c, record, Order::Same, |weights| count as u64 * weights)?;
    if x.len() != count * in_c || plain.plain.weights != in_c * out_c {
        let weights = plain.plain.weights;
        return Err(format!("input {:?} and {weights} weights do not match output {:?}", x.shape, y.shape));
    }
    forms.push_plain(c.role, plain);
    step(c, x, y, forms);
    Ok(())
}

/// The forms of an int8 convolution with one group, except the plain one.
fn conv_forms(c: &Context<'_>, request: &Request<'_>, input: [u16; 4], forms: &mut Forms) -> Lowering {
    if !c.arrange || !request.is_i8() {
        return Ok(());
    }
    let window = &request.window;
    if window.dilation[1] != 1 && window.kernel[1] != 1 {
        forms.obstacle = Some("the kernel's columns are dilated".into());
        return Ok(());
    }
    if u16::try_from(request.y.channels(0)).is_err() {
        forms.obstacle = Some("more than 65,535 output channels".into());
        return Ok(());
    }
    let mut layer = request.layer(c, input)?;
    let taps = usize::from(window.kernel[0]) * usize::from(window.kernel[1]) * usize::from(input[3]);
    if layer.q.weights.len() != taps * layer.channels() {
        return Ok(());
    }
    let weight = &c.graph.value(request.parameters[0]).name;
    let kind = if layer.pointwise() { plain::Kind::Rows } else { plain::Kind::Conv };
    let Some(mut parts) = odd_parts(c, &mut layer, kind, forms)? else { return Ok(()) };
    let whole = Shared::new(layer);
    let unpaired: Vec<usize> = odd::unpaired(&whole.q).iter().map(|odd| odd.channel).collect();
    if unpaired.is_empty() {
        return tiled_forms(c, [&whole, &whole], weight, [Rc::new(parts), Rc::default()], forms);
    }
    if !separable(c, &whole) {
        forms.obstacle =
            Some(format!("{} of {} channels: a weight of -128", unpaired.len(), whole.channels()));
        return Ok(());
    }
    // Every second channel of the part is empty, so that each real one is the first of its pair.
    let mut tiles = whole.q.clone();
    unpaired.iter().for_each(|&channel| odd::take_out(&mut tiles, channel));
    let tiles = Shared::new(whole.with(tiles));
    let others = Rc::new(std::mem::take(&mut parts));
    let part = Shared::new(whole.with(odd::part(&whole.q, &unpaired, 2)));
    let own = Part {
        form: Box::new(Tiled::new(&part, weight)?),
        shape: part.y.shape.clone(),
        channels: unpaired,
        step: 2,
        gathers: false,
    };
    tiled_forms(c, [&whole, &tiles], weight, [others, Rc::new(vec![own])], forms)
}

/// Whether separate operators may compute some channels of a layer.
fn separable(c: &Context<'_>, layer: &Layer) -> bool {
    c.role == Role::Alone && !layer.learns
}

/// Folds the zero point into the biases, and takes out the channels that the fast kernels cannot compute; they are
/// returned as parts for a plain kernel. `None` if the whole layer stays on a plain kernel.
fn odd_parts(
    c: &Context<'_>,
    layer: &mut Layer,
    kind: plain::Kind,
    forms: &mut Forms,
) -> Lowering<Option<Vec<Part>>> {
    let before = layer.q.clone();
    let output = odd::Output { zp: layer.y.zp, clamp: layer.clamp() };
    let odd = odd::fold(&mut layer.q, layer.x.zp, output);
    let Some(first) = odd.first() else { return Ok(Some(Vec::new())) };
    forms.obstacle = Some(format!("{} of {} channels: {}", odd.len(), layer.channels(), first.reason));
    if !separable(c, layer) || odd.len() == layer.channels() {
        return Ok(None);
    }
    let channels: Vec<usize> = odd.iter().map(|odd| odd.channel).collect();
    channels.iter().for_each(|&channel| odd::take_out(&mut layer.q, channel));
    let mut part = layer.with(odd::part(&before, &channels, 1));
    let gathers = kind == plain::Kind::Depthwise;
    if gathers {
        part.input[3] = to_u16(channels.len(), "the channels")?;
        part.x.shape = part.x.with_channels(channels.len());
    }
    let shape = part.y.shape.clone();
    let form = Box::new(PlainForm::of_layer(&part, kind)?);
    Ok(Some(vec![Part { form, shape, channels, step: 1, gathers }]))
}

/// Adds the tiled form of a layer and its variants. `whole` is the layer, `tiles` the layer without the channels that
/// tiles cannot hold. `parts` compute the channels that no form holds, and those that tiles do not hold.
fn tiled_forms(
    c: &Context<'_>,
    [whole, tiles]: [&Shared; 2],
    weight: &str,
    [parts, of_tiles]: [Rc<Vec<Part>>; 2],
    forms: &mut Forms,
) -> Lowering {
    if c.role == Role::Further
        && let Some(shared) = WeightShared::conv(tiles, weight, &c.out.sharing.wholes, &c.out.sharing.blobs)?
    {
        forms.push(shared);
        return Ok(());
    }
    let apart = |form: Box<dyn ConvForm>, parts: &Rc<Vec<Part>>| -> Box<dyn ConvForm> {
        if parts.is_empty() {
            form
        } else {
            Box::new(Apart { form, parts: Rc::clone(parts), y: whole.y.clone(), x: whole.x.clone() })
        }
    };
    let of_tiles = |form: Box<dyn ConvForm>| apart(apart(form, &of_tiles), &parts);
    let of_whole = |form: Box<dyn ConvForm>| apart(form, &parts);
    // Train steps and further networks must find single weights, so these are not packed, Huffman-coded or transformed.
    let alone = c.role == Role::Alone;
    let fixed = alone && !whole.learns;
    // A single pixel uses each weight once, so unpacking would take longer than all else.
    let may_pack = fixed && (c.prefer != Prefer::Speed || !whole.one_row());
    match if may_pack { PackedTiles::new(tiles, c.core)? } else { None } {
        Some(packed) => forms.forms.push(of_tiles(Box::new(packed))),
        None => {
            forms.forms.push(of_tiles(Box::new(Tiled::new(tiles, weight)?)));
            if fixed && let Some(narrow) = SingleMultiply::new(tiles, false)? {
                forms.forms.push(of_tiles(Box::new(narrow)));
            }
            // Twice the flash, which only `speed` pays.
            if fixed
                && c.prefer == Prefer::Speed
                && let Some(wide) = SingleMultiply::new(whole, true)?
            {
                forms.forms.push(of_whole(Box::new(wide)));
            }
        }
    }
    if fixed && c.core.multiplies_bytes() {
        forms.forms.push(of_whole(Box::new(RowMajor::new(whole)?)));
    }
    if alone {
        forms.density = sparse::density(whole);
        for form in Sparse::all(whole, whole.learns) {
            forms.sparse.push((forms.forms.len(), form.name()));
            forms.forms.push(of_whole(Box::new(form)));
        }
    }
    if fixed
        && c.prefer == Prefer::Speed
        && let Some(winograd) = Winograd::new(whole)
    {
        forms.forms.push(of_whole(Box::new(winograd)));
    }
    // Ten times the instructions, which only `flash` pays.
    if fixed
        && c.prefer == Prefer::Flash
        && let Some(coded) = Huffman::new(whole)?
    {
        forms.forms.push(of_whole(Box::new(coded)));
    }
    Ok(())
}

/// The forms of an int8 depthwise convolution, except the plain one.
fn depthwise_forms(c: &Context<'_>, request: &Request<'_>, input: [u16; 4], forms: &mut Forms) -> Lowering {
    if !c.arrange || !request.is_i8() {
        return Ok(());
    }
    if request.y.channels(0) != usize::from(input[3]) {
        forms.obstacle = Some("several output channels for each input channel".into());
        return Ok(());
    }
    if request.window.dilation != [1, 1] {
        forms.obstacle = Some("the kernel is dilated".into());
        return Ok(());
    }
    let mut layer = request.layer(c, input)?;
    let taps = usize::from(request.window.kernel[0]) * usize::from(request.window.kernel[1]);
    if layer.q.weights.len() != taps * layer.channels() {
        return Ok(());
    }
    let parts = odd_parts(c, &mut layer, plain::Kind::Depthwise, forms)?;
    let Some(parts) = parts.map(Rc::new) else { return Ok(()) };
    let layer = Shared::new(layer);
    let weight = &c.graph.value(request.parameters[0]).name;
    if c.role == Role::Further {
        forms.push_some(WeightShared::depthwise(
            &layer,
            weight,
            &c.out.sharing.wholes,
            &c.out.sharing.blobs,
        )?);
        if !forms.forms.is_empty() {
            return Ok(());
        }
    }
    // Cores whose vectors multiply bytes have a kernel for TFLite's requantisation alone.
    let single = if c.role == Role::Alone && !layer.learns && !c.core.multiplies_bytes() {
        ChannelPlanar::single_multiply(&layer)
    } else {
        None
    };
    for form in [Some(ChannelPlanar::new(&layer, weight)), single].into_iter().flatten() {
        let form: Box<dyn ConvForm> = Box::new(form);
        let (x, y) = (layer.x.clone(), layer.y.clone());
        forms.forms.push(if parts.is_empty() {
            form
        } else {
            Box::new(Apart { form, parts: Rc::clone(&parts), x, y })
        });
    }
    Ok(())
}

/// Appends a layer to the draft.
fn step(c: &mut Context<'_>, x: &Tensor, y: &Tensor, forms: Forms) {
    let node = c.node;
    let Forms { forms, sparse, density, obstacle } = forms;
    let conv = Conv {
        name: node.map(|n| n.name.clone()).unwrap_or_default(),
        operator: node.map(|n| n.op.name().to_string()).unwrap_or_default(),
        x: x.clone(),
        y: y.clone(),
        origin: None,
        branches: c.branches.clone(),
        before: [c.out.buffers.len(), c.out.blobs.len()],
        forms,
        sparse,
        density,
        obstacle,
    };
    c.out.steps.push(Step::Conv(conv));
}
