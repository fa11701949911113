//! The service: one loop without a model, one with it. An open model borrows the memory it lies in, so the compiler
//! ensures that nothing writes there.

use crate::guard::{Guard, in_flash};
use crate::keep::{forget, nothing, restore, save};
use crate::link::Link;
use crate::log::{log_info, log_warn};
use crate::observe::{Digester, Profiler, reading_cost};
use crate::{Clock, StackGauge};
use core::hint::black_box;
#[cfg(not(feature = "signed"))]
use core::marker::PhantomData;
use embedded_io::{Read, Write};
use offshoot::engine::StepReport;
use offshoot::format::header::VERSION;
use offshoot::store::Store;
use offshoot::store::nor_flash::NorFlash;
use offshoot::{Engine, Error};
use offshoot::wire::{
    CHUNK_MAX, ErrorCode, Failure, Info, Mode, ModelInfo, Request, Response, RunReport, StoreReport,
    TrainStepReport, crc32,
};

/// The resources of a board.
#[derive(Debug)]
pub struct Device<'d, C, K, F> {
    /// Name, as in `offshoot target list`.
    pub board: &'d str,
    /// Counts the cost of runs.
    pub clock: C,
    /// Measures the stack.
    pub gauge: K,
    /// Flash that may hold a model, aligned to 16; its content is not trusted. Empty if the board has none.
    pub model_flash: &'d [u8],
    /// RAM for a model that is sent over the line, aligned to 16.
    pub model_ram: &'d mut [u8],
    /// RAM for the arena, aligned to 16.
    pub arena: &'d mut [u8],
    /// Flash for learned weights, if the board has any.
    pub store: Option<Store<F>>,
    /// What the device trusts.
    #[cfg(feature = "signed")]
    pub guard: Guard<'d>,
}

/// Location of a model.
#[derive(Clone, Copy)]
enum Source {
    Flash,
    /// The first `len` bytes of the model RAM.
    Ram {
        len: usize,
    },
}

/// Purpose of opening a model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// To run, with the weights stored in flash if there are any.
    Run,
    /// To learn from the weights of its file.
    Learn,
    /// To learn from the weights stored in flash.
    Restore,
}

/// State of the device.
enum State {
    /// No model is open; one of `loading` bytes may be arriving.
    Empty { loading: Option<usize> },
    /// The host has asked to open this model and waits for the response.
    Open(Source),
    /// The host has asked this open model to learn and waits for the response; if true, from the weights in flash.
    Learn(Source, bool),
    /// The line is closed.
    Closed,
}

/// Serves requests until the line is closed (a read returns an error or 0 bytes).
pub fn serve<S: Read + Write, C: Clock, K: StackGauge, F: NorFlash>(
    serial: S,
    mut device: Device<'_, C, K, F>,
) {
    let mut link = Link::new(serial);
    let mut state = State::Empty { loading: None };
    log_info!("ready");
    if let Some(wear) = device.store.as_ref().map(Store::wear) {
        log_info!(
            "store: {} of {} pages bad, {} saves, a page erased {} times",
            wear.bad_pages,
            wear.pages,
            wear.saves,
            wear.erasures()
        );
    }
    loop {
        state = match state {
            State::Empty { loading } => without_model(&mut link, &mut device, loading),
            State::Open(source) => with_model(&mut link, &mut device, source, Opening::Run),
            State::Learn(source, false) => with_model(&mut link, &mut device, source, Opening::Learn),
            State::Learn(source, true) => with_model(&mut link, &mut device, source, Opening::Restore),
            State::Closed => return,
        }
    }
}

/// Serves until the host asks to open a model.
fn without_model<S: Read + Write, C: Clock, K, F>(
    link: &mut Link<S>,
    device: &mut Device<'_, C, K, F>,
    mut loading: Option<usize>,
) -> State {
    loop {
        #[cfg(feature = "signed")]
        let guard = &mut device.guard;
        #[cfg(not(feature = "signed"))]
        let guard = &mut Guard(PhantomData);
        let answer = match link.receive(guard, false) {
            None => return State::Closed,
            Some(Err(failure)) => Err(failure),
            Some(Ok(request)) => match request {
                Request::Hello => {
                    link.send(&Response::Info(info(device)));
                    continue;
                }
                Request::Challenge => match guard.challenge() {
                    Ok(nonce) => {
                        link.send(&Response::Challenge { nonce });
                        continue;
                    }
                    Err(failure) => Err(failure),
                },
                Request::LoadBegin { len } => {
                    begin_load(device.model_ram.len(), len).map(|len| loading = Some(len))
                }
                Request::LoadChunk { offset, data } => match loading {
                    Some(len) => write(&mut device.model_ram[..len], offset, data),
                    None => Err(Failure::new(ErrorCode::NotLoading, 0)),
                },
                Request::LoadEnd => match loading {
                    Some(len) => return State::Open(Source::Ram { len }),
                    None => Err(Failure::new(ErrorCode::NotLoading, 0)),
                },
                Request::UseFlash => return State::Open(Source::Flash),
                Request::Reset => {
                    loading = None;
                    Ok(())
                }
                Request::WriteInput { .. }
                | Request::Run { .. }
                | Request::ReadOutput { .. }
                | Request::LearnBegin
                | Request::Learn { .. }
                | Request::Fit { .. }
                | Request::ReadLearned { .. }
                | Request::Select { .. }
                | Request::Save
                | Request::Restore
                | Request::Forget { .. }
                | Request::ActiveBlocks { .. }
                | Request::ReadScores { .. }
                | Request::Course { .. }
                | Request::WriteLearned => Err(Failure::new(ErrorCode::NoModel, 0)),
            },
        };
        respond(link, answer);
    }
}

/// Opens the model and serves it until it is closed. Responds to every request except those that open another model or
/// start learning: the next state responds to these.
fn with_model<S: Read + Write, C: Clock, K: StackGauge, F: NorFlash>(
    link: &mut Link<S>,
    device: &mut Device<'_, C, K, F>,
    source: Source,
    opening: Opening,
) -> State {
    let facts = (device.board, device.model_ram.len(), device.model_flash.len(), device.arena.len());
    let address = device.model_flash.as_ptr().addr() as u32;
    let Device { clock, gauge, model_flash, model_ram, arena, store, .. } = device;
    #[cfg(feature = "signed")]
    let guard = &mut device.guard;
    #[cfg(not(feature = "signed"))]
    let guard = &mut Guard(PhantomData);
    let ram_len = model_ram.len();
    let bytes: &[u8] = match source {
        Source::Flash => in_flash(model_flash),
        Source::Ram { len } => &model_ram[..len],
    };
    let opened = guard.open(bytes).and_then(|(model, binding)| {
        let mut report = ModelInfo {
            len: bytes.len() as u32,
            crc: crc32(bytes),
            operators: model.op_count(),
            arena: model.arena_bytes(),
            restored: 0,
        };
        // At boot: goes on from stored weights, or from those that the file has learned, if the arena is large enough.
        let begun = model.learning().is_some_and(|learning| learning.head.begun.is_some());
        let stored = begun || store.as_ref().and_then(Store::generation).is_some();
        let learns = model.train_arena_bytes().is_some_and(|needed| needed as usize <= arena.len());
        if opening == Opening::Run && !(stored && learns) {
            return Ok((Engine::new(model, arena)?, report, binding));
        }
        let mut engine = Engine::learning(model, arena)?;
        if opening != Opening::Learn {
            match restore(&mut engine, store, &binding) {
                Ok(stored) => report.restored = stored.generation,
                // The weights of the file; a host that asks for `Restore` gets the reason.
                Err(failure) => log_warn!("learned weights: code {}", failure.code as u8),
            }
        }
        Ok((engine, report, binding))
    });
    let opened = opened.and_then(|opened| guard.accept(&opened.2).map(|()| opened));
    let (mut engine, binding) = match opened {
        Ok((engine, report, binding)) => {
            log_info!(
                "model of {} bytes, {} operators, arena {}",
                report.len,
                report.operators,
                report.arena
            );
            match opening {
                Opening::Run => link.send(&Response::Model(report)),
                Opening::Learn => link.send(&Response::Ok),
                Opening::Restore if report.restored > 0 => link.send(&Response::Stored(StoreReport {
                    generation: report.restored,
                    capacity: store.as_ref().map_or(0, Store::capacity),
                })),
                Opening::Restore => respond(link, Err(nothing(store))),
            }
            (engine, binding)
        }
        Err(failure) => {
            respond(link, Err(failure));
            return State::Empty { loading: None };
        }
    };
    loop {
        let answer = match link.receive(guard, false) {
            None => return State::Closed,
            Some(Err(failure)) => Err(failure),
            Some(Ok(request)) => match request {
                Request::Hello => {
                    link.send(&Response::Info(info_of::<C>(facts, address)));
                    continue;
                }
                Request::Challenge => match guard.challenge() {
                    Ok(nonce) => {
                        link.send(&Response::Challenge { nonce });
                        continue;
                    }
                    Err(failure) => Err(failure),
                },
                Request::LoadBegin { len } => match begin_load(ram_len, len) {
                    Ok(len) => {
                        link.send(&Response::Ok);
                        return State::Empty { loading: Some(len) };
                    }
                    Err(failure) => Err(failure),
                },
                Request::LoadChunk { .. } | Request::LoadEnd => Err(Failure::new(ErrorCode::NotLoading, 0)),
                Request::UseFlash => return State::Open(Source::Flash),
                Request::Reset => {
                    link.send(&Response::Ok);
                    return State::Empty { loading: None };
                }
                Request::WriteInput { index, offset, data } => match engine.input_mut(index.into()) {
                    Ok(tensor) => write(tensor, offset, data),
                    Err(error) => Err(error.into()),
                },
                Request::Run { mode } => match run(link, &mut engine, clock, gauge, mode) {
                    Ok(report) => {
                        link.send(&Response::Done(report));
                        continue;
                    }
                    Err(failure) => Err(failure),
                },
                Request::LearnBegin => return State::Learn(source, false),
                Request::Fit { targets } => match fit(&mut engine, clock, gauge, targets) {
                    Ok(report) => {
                        link.send(&Response::TrainStep(report));
                        continue;
                    }
                    Err(failure) => Err(failure),
                },
                Request::Learn { label } => match learn(&mut engine, clock, gauge, label) {
                    Ok(report) => {
                        link.send(&Response::TrainStep(report));
                        continue;
                    }
                    Err(failure) => Err(failure),
                },
                Request::Select { network } => match select(&mut engine, clock, network) {
                    Ok(report) => {
                        link.send(&Response::Done(report));
                        continue;
                    }
                    Err(failure) => Err(failure),
                },
                Request::ReadLearned { offset, len } => match learned(&engine, offset, len) {
                    Ok(data) => {
                        link.send(&Response::Data(data));
                        continue;
                    }
                    Err(failure) => Err(failure),
                },
                Request::Save => match save(&engine, store, &binding) {
                    Ok(report) => {
                        link.send(&Response::Stored(report));
                        continue;
                    }
                    Err(failure) => Err(failure),
                },
                Request::Restore if engine.state().is_none() => return State::Learn(source, true),
                Request::Restore => match restore(&mut engine, store, &binding) {
                    Ok(report) => {
                        link.send(&Response::Stored(report));
                        continue;
                    }
                    Err(failure) => Err(failure),
                },
                Request::Forget { flash } => forget(&mut engine, store, flash),
                Request::ActiveBlocks { blocks } => engine.set_active_blocks(blocks).map_err(Failure::from),
                Request::Course { steps } => engine.set_course(steps).map_err(Failure::from),
                Request::WriteLearned => take_learned(link, guard, &mut engine),
                Request::ReadScores { offset, len } => match scores(&engine, offset, len) {
                    Ok(data) => {
                        link.send(&Response::Data(data));
                        continue;
                    }
                    Err(failure) => Err(failure),
                },
                Request::ReadOutput { index, offset, len } => match read(&engine, index, offset, len) {
                    Ok(data) => {
                        link.send(&Response::Data(data));
                        continue;
                    }
                    Err(failure) => Err(failure),
                },
            },
        };
        respond(link, answer);
    }
}

fn run<S: Read + Write, C: Clock, K: StackGauge>(
    link: &mut Link<S>,
    engine: &mut Engine<'_, '_>,
    clock: &mut C,
    gauge: &mut K,
    mode: Mode,
) -> Result<RunReport, Failure> {
    log_info!("run {}", mode);
    let reading_cost = reading_cost(clock);
    match mode {
        Mode::Plain => {
            let learns = engine.state().is_some();
            if learns {
                engine.paint(PAINT);
            }
            let depth = gauge.paint();
            clock.restart();
            let start = clock.now();
            let result = black_box(&mut *engine).run();
            let end = clock.now();
            let stack = depth_of(gauge, depth)?;
            result?;
            let count = clock.between(start, end).saturating_sub(reading_cost);
            let arena = if learns { engine.used(PAINT) as u32 } else { 0 };
            Ok(RunReport { count, stack, arena })
        }
        Mode::Profile => {
            engine.run_with(&mut Profiler { link, clock, gauge, reading_cost, depth: 0, start: 0 })?;
            Ok(RunReport { count: 0, stack: 0, arena: 0 })
        }
        Mode::Digest => {
            engine.run_with(&mut Digester { link })?;
            Ok(RunReport { count: 0, stack: 0, arena: 0 })
        }
    }
}

/// Runs and measures one train step.
fn learn<C: Clock, K: StackGauge>(
    engine: &mut Engine<'_, '_>,
    clock: &mut C,
    gauge: &mut K,
    label: u16,
) -> Result<TrainStepReport, Failure> {
    step(engine, clock, gauge, |engine| engine.learn(label))
}

/// A train step towards real targets.
#[cfg(feature = "head-regression")]
fn fit<C: Clock, K: StackGauge>(
    engine: &mut Engine<'_, '_>,
    clock: &mut C,
    gauge: &mut K,
    targets: &[u8],
) -> Result<TrainStepReport, Failure> {
    let mut numbers = [0.0; offshoot::learn::heads::MAX_OUTPUTS];
    let given = numbers.get_mut(..targets.len() / 4).ok_or(Failure::new(ErrorCode::Length, 0))?;
    for (number, bytes) in given.iter_mut().zip(targets.chunks_exact(4)) {
        *number = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    step(engine, clock, gauge, |engine| engine.fit(given))
}

/// Firmware without the head refuses models with one, so nothing is learned.
#[cfg(not(feature = "head-regression"))]
fn fit<C, K>(
    _engine: &mut Engine<'_, '_>,
    _clock: &mut C,
    _gauge: &mut K,
    _targets: &[u8],
) -> Result<TrainStepReport, Failure> {
    Err(Failure::new(ErrorCode::NotLearning, 0))
}

/// A measured train step.
fn step<C: Clock, K: StackGauge>(
    engine: &mut Engine<'_, '_>,
    clock: &mut C,
    gauge: &mut K,
    take: impl FnOnce(&mut Engine<'_, '_>) -> Result<StepReport, Error>,
) -> Result<TrainStepReport, Failure> {
    let reading_cost = reading_cost(clock);
    engine.paint(PAINT);
    let depth = gauge.paint();
    clock.restart();
    let start = clock.now();
    let result = take(black_box(&mut *engine));
    let end = clock.now();
    let stack = depth_of(gauge, depth)?;
    let report = result?;
    Ok(TrainStepReport {
        guess: report.guess.unwrap_or(u16::MAX),
        steps: report.steps,
        count: clock.between(start, end).saturating_sub(reading_cost),
        stack,
        arena: engine.used(PAINT) as u32,
        left_out: report.left_out,
    })
}

/// Takes a learned state from the host, piece by piece.
fn take_learned<S: Read + Write>(
    link: &mut Link<S>,
    guard: &mut Guard<'_>,
    engine: &mut Engine<'_, '_>,
) -> Result<(), Failure> {
    if engine.state().is_none() {
        return Err(Failure::new(ErrorCode::NotLearning, 0));
    }
    link.send(&Response::Ok);
    engine.restore_with(|own| {
        loop {
            let answer = match link.receive(guard, true) {
                None => return Err(Failure::new(ErrorCode::Frame, 0)),
                Some(Err(failure)) => Err(failure),
                Some(Ok(Request::LoadChunk { offset, data })) => write(own, offset, data),
                Some(Ok(Request::LoadEnd)) => return Ok(()),
                // Sent again, because the answer was lost.
                Some(Ok(Request::WriteLearned)) => Ok(()),
                Some(Ok(_)) => return Err(Failure::new(ErrorCode::NotLoading, 0)),
            };
            respond(link, answer);
        }
    })
}

/// Selects another network and measures that.
fn select<C: Clock>(engine: &mut Engine<'_, '_>, clock: &mut C, network: u8) -> Result<RunReport, Failure> {
    let reading_cost = reading_cost(clock);
    clock.restart();
    let start = clock.now();
    let result = black_box(&mut *engine).select(network.into());
    let end = clock.now();
    result?;
    let count = clock.between(start, end).saturating_sub(reading_cost);
    Ok(RunReport { count, stack: 0, arena: 0 })
}

/// Bytes of stack used below `depth` since the gauge painted it.
fn depth_of<K: StackGauge>(gauge: &K, depth: u32) -> Result<u32, Failure> {
    match gauge.exhausted() {
        Some(size) => Err(Failure::new(ErrorCode::Stack, size)),
        None => Ok(gauge.deepest().saturating_sub(depth)),
    }
}

/// Pattern that fills the arena before a step: bytes that no longer hold it were used.
const PAINT: u8 = 0xa5;

fn respond<S: Read + Write>(link: &mut Link<S>, answer: Result<(), Failure>) {
    match answer {
        Ok(()) => link.send(&Response::Ok),
        Err(failure) => {
            log_warn!(
                "refused: code {} operator {} detail {}",
                failure.code as u8,
                failure.operator,
                failure.detail
            );
            link.send(&Response::Error(failure));
        }
    }
}

fn info<'d, C: Clock, K, F>(device: &Device<'d, C, K, F>) -> Info<'d> {
    let facts = (device.board, device.model_ram.len(), device.model_flash.len(), device.arena.len());
    info_of::<C>(facts, device.model_flash.as_ptr().addr() as u32)
}

fn info_of<C: Clock>((board, ram, flash, arena): (&str, usize, usize, usize), address: u32) -> Info<'_> {
    Info {
        board,
        format: VERSION,
        model_ram: ram as u32,
        model_flash: flash as u32,
        model_flash_address: address,
        arena: arena as u32,
        unit: C::UNIT,
    }
}

fn begin_load(room: usize, len: u32) -> Result<usize, Failure> {
    match usize::try_from(len) {
        Ok(len) if len <= room => Ok(len),
        _ => Err(Failure::new(ErrorCode::ModelTooLarge, room as u32)),
    }
}

fn write(target: &mut [u8], offset: u32, data: &[u8]) -> Result<(), Failure> {
    let range = Failure::new(ErrorCode::Range, target.len() as u32);
    let start = usize::try_from(offset).map_err(|_| range)?;
    let end = start.checked_add(data.len()).ok_or(range)?;
    target.get_mut(start..end).ok_or(range)?.copy_from_slice(data);
    Ok(())
}

fn read<'e>(engine: &'e Engine<'_, '_>, index: u8, offset: u32, len: u16) -> Result<&'e [u8], Failure> {
    chunk(engine.output(index.into())?, offset, len)
}

fn scores<'e>(engine: &'e Engine<'_, '_>, offset: u32, len: u16) -> Result<&'e [u8], Failure> {
    let scores = engine.scores().ok_or(Failure::new(ErrorCode::NoSuchTensor, 0))?;
    chunk(offshoot::wire::bytes_of(scores), offset, len)
}

fn learned<'e>(engine: &'e Engine<'_, '_>, offset: u32, len: u16) -> Result<&'e [u8], Failure> {
    let bytes = engine.learned().ok_or(Failure::new(ErrorCode::NotLearning, 0))?;
    chunk(bytes, offset, len)
}

/// `len` bytes from `offset` on, if they exist and fit a message.
fn chunk(tensor: &[u8], offset: u32, len: u16) -> Result<&[u8], Failure> {
    let range = Failure::new(ErrorCode::Range, tensor.len() as u32);
    let (start, len) = (usize::try_from(offset).map_err(|_| range)?, usize::from(len));
    if len > CHUNK_MAX {
        return Err(Failure::new(ErrorCode::Range, CHUNK_MAX as u32));
    }
    tensor.get(start..start.checked_add(len).ok_or(range)?).ok_or(range)
}
