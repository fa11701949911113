//! The host as a device: the same runtime on this machine.

use crate::TargetError;
use crate::device::{Device, DeviceInfo, OperatorProfile, Profile};
use offshoot::engine::{StepReport, TrainState};
use offshoot::trace::{NoObserver, Observer, OpInfo};
use offshoot::wire::{TrainStepReport, crc32};
use offshoot::{AlignedBytes, Engine, Model};
use std::time::Instant;

/// Runs models on this machine. It computes the same bits as every device. It measures time, which varies between runs.
#[derive(Debug, Default)]
pub struct HostDevice {
    model: Option<Loaded>,
    /// Stands in for flash: what was last saved, and its model.
    saved: Option<Saved>,
}

#[derive(Debug)]
struct Saved {
    generation: u32,
    digest: u32,
    learned: Vec<u8>,
}

/// Byte that fills the arena before a step; bytes that differ afterwards were used.
const PAINT: u8 = 0xa5;

/// A model's file and arena, aligned for the runtime.
#[derive(Debug)]
struct Loaded {
    off: AlignedBytes,
    arena: AlignedBytes,
    state: Option<TrainState>,
    network: usize,
    /// Whether the model has run, so that recurrent layers may have state.
    started: bool,
    arena_used: u32,
}

impl HostDevice {
    /// A host without a model.
    pub fn new() -> Self {
        Self::default()
    }

    fn run_observed(
        &mut self,
        inputs: &[&[u8]],
        observer: &mut impl Observer,
    ) -> Result<Vec<Vec<u8>>, TargetError> {
        let loaded = self.model.as_mut().ok_or(TargetError::NoModel)?;
        let (mut engine, output_count) = loaded.engine(inputs)?;
        let learns = engine.state().is_some();
        if learns {
            engine.paint(PAINT);
        }
        engine.run_with(observer)?;
        let outputs = (0..output_count).map(|i| Ok(engine.output(i)?.to_vec())).collect();
        let (used, state) = (if learns { engine.used(PAINT) as u32 } else { 0 }, engine.state());
        (loaded.arena_used, loaded.state) = (used, state);
        outputs
    }

    /// An engine that continues learning.
    fn resumed(&mut self) -> Result<Engine<'_, '_>, TargetError> {
        let loaded = self.model.as_mut().ok_or(TargetError::NoModel)?;
        let state = loaded.state.ok_or(offshoot::Error::NotLearning)?;
        Ok(Engine::resumed(Model::open(loaded.off.bytes())?, loaded.arena.bytes_mut(), state)?)
    }
}

impl Loaded {
    /// An engine with its inputs written, and the number of outputs.
    fn engine(&mut self, inputs: &[&[u8]]) -> Result<(Engine<'_, '_>, usize), TargetError> {
        let model = Model::open(self.off.bytes())?.network(self.network)?;
        let mut engine = match self.state {
            Some(state) => Engine::resumed(model, self.arena.bytes_mut(), state)?,
            // As on a board, whose engine stays.
            None if self.started => Engine::continued(model, self.arena.bytes_mut())?,
            None => Engine::new(model, self.arena.bytes_mut())?,
        };
        self.started = true;
        let output_count = model.output_count();
        check_count(inputs.len(), model.input_count())?;
        for (i, input) in inputs.iter().enumerate() {
            let tensor = engine.input_mut(i)?;
            check_len(i, input.len(), tensor.len())?;
            tensor.copy_from_slice(input);
        }
        Ok((engine, output_count))
    }
}

impl Device for HostDevice {
    fn info(&mut self) -> Result<DeviceInfo, TargetError> {
        Ok(DeviceInfo { board: "host".into(), model_bytes: None, arena_bytes: None })
    }

    fn load(&mut self, off: &[u8]) -> Result<(), TargetError> {
        self.model = None;
        let off = AlignedBytes::copy_of(crate::session::network(off));
        let model = Model::open(off.bytes())?;
        let arena = AlignedBytes::zeroed(model.train_arena_bytes().unwrap_or(model.arena_bytes()) as usize);
        let stored = self.saved.as_ref().is_some_and(|s| s.digest == crc32(off.bytes()));
        let learns = model.learning().is_some();
        let begun = model.learning().is_some_and(|learning| learning.head.begun.is_some());
        self.model = Some(Loaded { off, arena, state: None, network: 0, started: false, arena_used: 0 });
        if stored && learns {
            self.restore()?;
        } else if begun {
            self.begin_learning()?;
        }
        Ok(())
    }

    fn select(&mut self, index: usize) -> Result<Option<u64>, TargetError> {
        let loaded = self.model.as_mut().ok_or(TargetError::NoModel)?;
        let network = Model::open(loaded.off.bytes())?.network(index)?;
        if loaded.state.is_some() && network.network_index() != loaded.network {
            return Err(offshoot::Error::Learning.into());
        }
        if loaded.started && index != loaded.network {
            Engine::continued(network, loaded.arena.bytes_mut())?.restart();
        }
        loaded.network = index;
        Ok(None)
    }

    fn run(&mut self, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>, TargetError> {
        self.run_observed(inputs, &mut NoObserver)
    }

    fn profile(&mut self, inputs: &[&[u8]]) -> Result<Profile, TargetError> {
        let mut stopwatch = Stopwatch { start: Instant::now(), operators: vec![] };
        let start = Instant::now();
        self.run_observed(inputs, &mut stopwatch)?;
        let nanoseconds = Some(start.elapsed().as_nanos() as u64);
        let Loaded { off, network, .. } = self.model.as_ref().ok_or(TargetError::NoModel)?;
        Ok(Profile {
            target: "host".into(),
            instructions: None,
            cycles: None,
            cycles_range: None,
            flash_waits: None,
            nanoseconds,
            operators: stopwatch.operators,
            arena_bytes: Model::open(off.bytes())?.network(*network)?.arena_bytes().into(),
            stack_bytes: None,
            code_bytes: None,
            model_bytes: off.len() as u64,
        })
    }

    fn digests(&mut self, inputs: &[&[u8]]) -> Result<Vec<u32>, TargetError> {
        let mut digester = Digester(vec![]);
        self.run_observed(inputs, &mut digester)?;
        Ok(digester.0)
    }

    fn begin_learning(&mut self) -> Result<(), TargetError> {
        let loaded = self.model.as_mut().ok_or(TargetError::NoModel)?;
        let model = Model::open(loaded.off.bytes())?;
        loaded.state = Engine::learning(model, loaded.arena.bytes_mut())?.state();
        Ok(())
    }

    fn learn(&mut self, inputs: &[&[u8]], label: u16) -> Result<TrainStepReport, TargetError> {
        self.step(inputs, |engine| engine.learn(label))
    }

    fn fit(&mut self, inputs: &[&[u8]], targets: &[f32]) -> Result<TrainStepReport, TargetError> {
        self.step(inputs, |engine| engine.fit(targets))
    }

    fn learned(&mut self) -> Result<Vec<u8>, TargetError> {
        Ok(self.resumed()?.learned().unwrap_or_default().to_vec())
    }

    fn scores(&mut self) -> Result<Vec<f32>, TargetError> {
        let engine = self.resumed()?;
        Ok(engine.scores().ok_or(offshoot::Error::NoSuchTensor)?.to_vec())
    }

    fn set_active_blocks(&mut self, blocks: u8) -> Result<(), TargetError> {
        let mut engine = self.resumed()?;
        engine.set_active_blocks(blocks)?;
        let state = engine.state();
        self.go_on(state);
        Ok(())
    }

    fn write_learned(&mut self, learned: &[u8]) -> Result<(), TargetError> {
        let mut engine = self.resumed()?;
        let written = engine.restore(learned);
        let state = engine.state();
        self.go_on(state);
        Ok(written?)
    }

    fn set_course(&mut self, steps: u32) -> Result<(), TargetError> {
        let mut engine = self.resumed()?;
        engine.set_course(steps)?;
        let state = engine.state();
        self.go_on(state);
        Ok(())
    }

    fn save(&mut self) -> Result<u32, TargetError> {
        let learned = self.learned()?;
        let digest = self.model.as_ref().map_or(0, |m| crc32(m.off.bytes()));
        let generation = self.saved.as_ref().map_or(0, |s| s.generation) + 1;
        self.saved = Some(Saved { generation, digest, learned });
        Ok(generation)
    }

    fn restore(&mut self) -> Result<u32, TargetError> {
        let loaded = self.model.as_mut().ok_or(TargetError::NoModel)?;
        let digest = crc32(loaded.off.bytes());
        let saved = self.saved.as_ref().filter(|s| s.digest == digest);
        let saved = saved.ok_or(TargetError::Input("nothing was saved with this model".into()))?;
        let model = Model::open(loaded.off.bytes())?;
        let mut engine = match loaded.state {
            Some(state) => Engine::resumed(model, loaded.arena.bytes_mut(), state)?,
            None => Engine::learning(model, loaded.arena.bytes_mut())?,
        };
        engine.restore(&saved.learned)?;
        let (state, generation) = (engine.state(), saved.generation);
        self.go_on(state);
        Ok(generation)
    }

    fn forget(&mut self, flash: bool) -> Result<(), TargetError> {
        if flash {
            self.saved = None;
            if self.model.as_ref().is_none_or(|m| m.state.is_none()) {
                return Ok(());
            }
        }
        let mut engine = self.resumed()?;
        engine.forget()?;
        let state = engine.state();
        self.go_on(state);
        Ok(())
    }

    fn reopen(&mut self) -> Result<u32, TargetError> {
        let off = self.model.as_ref().ok_or(TargetError::NoModel)?.off.bytes().to_vec();
        self.load(&off)?;
        let begun = self.model.as_ref().is_some_and(|m| m.state.is_some());
        Ok(self.saved.as_ref().filter(|_| begun).map_or(0, |s| s.generation))
    }

    fn run_count(&self) -> Option<u64> {
        None
    }

    fn arena_used(&self) -> u32 {
        self.model.as_ref().map_or(0, |m| m.arena_used)
    }
}

impl HostDevice {
    /// A train step.
    fn step(
        &mut self,
        inputs: &[&[u8]],
        take: impl FnOnce(&mut Engine<'_, '_>) -> Result<StepReport, offshoot::Error>,
    ) -> Result<TrainStepReport, TargetError> {
        let loaded = self.model.as_mut().ok_or(TargetError::NoModel)?;
        let (mut engine, _) = loaded.engine(inputs)?;
        engine.paint(PAINT);
        let report = take(&mut engine)?;
        let (state, arena) = (engine.state(), engine.used(PAINT) as u32);
        loaded.state = state;
        let guess = report.guess.unwrap_or(u16::MAX);
        let (steps, left_out) = (report.steps, report.left_out);
        Ok(TrainStepReport { guess, steps, count: 0, stack: 0, arena, left_out })
    }

    fn go_on(&mut self, state: Option<TrainState>) {
        if let Some(loaded) = &mut self.model {
            loaded.state = state;
        }
    }
}

struct Stopwatch {
    start: Instant,
    operators: Vec<OperatorProfile>,
}

impl Observer for Stopwatch {
    fn before(&mut self, _operator: OpInfo) {
        self.start = Instant::now();
    }

    fn after(&mut self, operator: OpInfo, _output: &[u8]) {
        let nanoseconds = Some(self.start.elapsed().as_nanos() as u64);
        let OpInfo { index, tag, origin } = operator;
        self.operators.push(OperatorProfile {
            index,
            tag,
            origin,
            instructions: None,
            cycles: None,
            nanoseconds,
            stack_bytes: None,
        });
    }
}

struct Digester(Vec<u32>);

impl Observer for Digester {
    fn after(&mut self, _operator: OpInfo, output: &[u8]) {
        self.0.push(crc32(output));
    }
}

/// Checks the number of inputs.
pub(crate) fn check_count(given: usize, needed: usize) -> Result<(), TargetError> {
    if given == needed {
        return Ok(());
    }
    Err(TargetError::Input(format!("the model has {needed} input(s), but {given} were given")))
}

/// Checks the length of an input.
pub(crate) fn check_len(index: usize, given: usize, needed: usize) -> Result<(), TargetError> {
    if given == needed {
        return Ok(());
    }
    Err(TargetError::Input(format!("input {index} has {given} bytes, but the model needs {needed}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_model_nothing_runs() {
        assert!(matches!(HostDevice::new().run(&[]), Err(TargetError::NoModel)));
        assert!(matches!(HostDevice::new().load(b"no model"), Err(TargetError::Model(_))));
    }
}
