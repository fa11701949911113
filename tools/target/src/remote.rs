//! A device at the other end of a serial line.

use crate::TargetError;
use crate::client::{Client, Facts};
use crate::device::{Device, DeviceInfo, OperatorProfile, Profile};
use crate::host::{check_count, check_len};
use crate::session::network;
use crate::transport::Transport;
use offshoot::format::record::{IoRepr, Tag};
use offshoot::wire::{CountUnit, Mode, OperatorMeasurement, RunReport, TrainStepReport};
use offshoot::{AlignedBytes, Model};

/// Runs models on a device that speaks [`offshoot::wire`].
#[derive(Debug)]
pub struct RemoteDevice<T> {
    client: Client<T>,
    facts: Option<Facts>,
    model: Option<Loaded>,
    /// All networks of the model.
    networks: Vec<Loaded>,
    /// Bytes of the firmware, if known.
    pub(crate) code_bytes: Option<u64>,
}

/// The host's knowledge of the model on the device.
#[derive(Clone, Debug)]
struct Loaded {
    off: Vec<u8>,
    in_flash: bool,
    /// Number of the save that it was opened with; 0 for none.
    restored: u32,
    input_bytes: Vec<usize>,
    output_bytes: Vec<usize>,
    arena_bytes: u64,
    /// Bytes of the arena while it learns.
    train_arena_bytes: u64,
    model_bytes: u64,
    learned_bytes: usize,
    answer_classes: Option<u16>,
    /// High-water mark of the arena in the last run.
    arena_used: u32,
    /// Cost of the last run.
    run_count: u32,
}

impl<T: Transport> RemoteDevice<T> {
    /// A device without a model.
    pub fn new(client: Client<T>) -> Self {
        Self { client, facts: None, model: None, networks: Vec::new(), code_bytes: None }
    }

    /// The device's properties, which are requested once.
    ///
    /// # Errors
    /// The device does not answer.
    pub fn facts(&mut self) -> Result<&Facts, TargetError> {
        let facts = match self.facts.take() {
            Some(facts) => facts,
            None => self.client.hello()?,
        };
        Ok(self.facts.insert(facts))
    }

    /// Uses the model in the device's flash, which must be `off`.
    ///
    /// # Errors
    /// As [`Device::load`].
    pub fn use_flash(&mut self, off: &[u8]) -> Result<(), TargetError> {
        self.load_with(off, true)
    }

    fn load_with(&mut self, off: &[u8], in_flash: bool) -> Result<(), TargetError> {
        self.model = None;
        // The host checks first, since its errors say more and it needs to know the tensors anyway.
        let aligned = AlignedBytes::copy_of(network(off));
        let model = Model::open(aligned.bytes())?;
        let bytes =
            |io: IoRepr| io.shape.iter().map(|&d| usize::from(d)).product::<usize>() * io.dtype.size();
        let of = |model: Model<'_>| Loaded {
            in_flash,
            restored: 0,
            input_bytes: (0..).map_while(|i| model.input(i)).map(bytes).collect(),
            output_bytes: (0..).map_while(|i| model.output(i)).map(bytes).collect(),
            arena_bytes: u64::from(model.arena_bytes()),
            train_arena_bytes: u64::from(model.train_arena_bytes().unwrap_or_default()),
            model_bytes: off.len() as u64,
            learned_bytes: model.learning().map_or(0, |l| l.learned_bytes()),
            off: Vec::new(),
            answer_classes: model.learning().and_then(|l| l.head.classifier).map(|a| a.classes),
            arena_used: 0,
            run_count: 0,
        };
        self.fits("the arena", model.arena_bytes().into(), |facts| facts.arena)?;
        let networks = (0..model.network_count()).map(|i| Ok(of(model.network(i)?)));
        self.networks = networks.collect::<Result<_, offshoot::Error>>()?;
        // A device without host keys takes files without envelopes.
        let sent = if self.client.authorise()? { off } else { network(off) };
        let opened = if in_flash { self.client.use_flash(sent)? } else { self.client.load(sent)? };
        if let Some(first) = self.networks.first_mut() {
            first.restored = opened.restored;
            first.off = off.to_vec();
        }
        self.model = self.networks.first().cloned();
        Ok(())
    }

    /// Checks that the device has enough bytes for `what`.
    fn fits(
        &mut self,
        what: &'static str,
        needed: u64,
        room: impl FnOnce(&Facts) -> u32,
    ) -> Result<(), TargetError> {
        let facts = self.facts()?;
        let there = u64::from(room(facts));
        if needed <= there {
            return Ok(());
        }
        Err(TargetError::DoesNotFit { board: facts.board.clone(), what, needed, there })
    }

    fn write_inputs(&mut self, inputs: &[&[u8]]) -> Result<&Loaded, TargetError> {
        let model = self.model.as_ref().ok_or(TargetError::NoModel)?;
        check_count(inputs.len(), model.input_bytes.len())?;
        for (i, (input, &needed)) in inputs.iter().zip(&model.input_bytes).enumerate() {
            check_len(i, input.len(), needed)?;
        }
        for (i, input) in inputs.iter().enumerate() {
            self.client.write_input(i as u8, input)?;
        }
        Ok(model)
    }

    fn run_observed(
        &mut self,
        inputs: &[&[u8]],
        mode: Mode,
        operator: impl FnMut(OperatorMeasurement),
    ) -> Result<RunReport, TargetError> {
        self.write_inputs(inputs)?;
        Ok(self.client.run(mode, operator)?)
    }
}

impl<T: Transport> Device for RemoteDevice<T> {
    fn info(&mut self) -> Result<DeviceInfo, TargetError> {
        let facts = self.facts()?;
        Ok(DeviceInfo {
            board: facts.board.clone(),
            model_bytes: Some(facts.model_ram.max(facts.model_flash).into()),
            arena_bytes: Some(facts.arena.into()),
        })
    }

    fn load(&mut self, off: &[u8]) -> Result<(), TargetError> {
        self.fits("the file (RAM for models)", off.len() as u64, |facts| facts.model_ram)?;
        self.load_with(off, false)
    }

    fn select(&mut self, index: usize) -> Result<Option<u64>, TargetError> {
        let networks = self.networks.len() as u16;
        let chosen = self.networks.get(index).ok_or(offshoot::Error::NoSuchNetwork { networks })?;
        let count = self.client.select(index as u8)?;
        self.model = Some(chosen.clone());
        Ok(Some(count.into()))
    }

    fn run(&mut self, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>, TargetError> {
        let report = self.run_observed(inputs, Mode::Plain, |_| {})?;
        if let Some(model) = &mut self.model {
            (model.arena_used, model.run_count) = (report.arena, report.count);
        }
        let lengths = self.model.as_ref().map(|m| m.output_bytes.clone()).unwrap_or_default();
        lengths.iter().enumerate().map(|(i, &len)| Ok(self.client.read_output(i as u8, len)?)).collect()
    }

    fn profile(&mut self, inputs: &[&[u8]]) -> Result<Profile, TargetError> {
        let facts = self.facts()?.clone();
        let mut reports = vec![];
        let total = self.run_observed(inputs, Mode::Plain, |_| {})?;
        // A run consumes its inputs, so they are written again.
        self.run_observed(inputs, Mode::Profile, |report| reports.push(report))?;
        let model = self.model.as_ref().ok_or(TargetError::NoModel)?;
        let unit = facts.unit;
        // A board that cannot measure its stack reports 0, which no run uses.
        let stack = |bytes: u32| (total.stack > 0).then_some(u64::from(bytes));
        let operators = reports.iter().map(|r| {
            let (instructions, cycles, nanoseconds) = in_unit(unit, r.count);
            let tag = Tag::from_u8(r.tag).ok_or_else(|| {
                TargetError::Input(format!(
                    "the device ran an operator of unknown kind {}: use offshoot and firmware of the same version",
                    r.tag
                ))
            })?;
            Ok(OperatorProfile {
                index: r.index,
                tag,
                origin: r.origin,
                instructions,
                cycles,
                nanoseconds,
                stack_bytes: stack(r.stack),
            })
        });
        let operators = operators.collect::<Result<_, TargetError>>()?;
        let (instructions, cycles, nanoseconds) = in_unit(unit, total.count);
        Ok(Profile {
            target: facts.board,
            instructions,
            cycles,
            cycles_range: None,
            flash_waits: None,
            nanoseconds,
            operators,
            arena_bytes: model.arena_bytes,
            stack_bytes: stack(total.stack),
            code_bytes: self.code_bytes,
            model_bytes: model.model_bytes,
        })
    }

    fn digests(&mut self, inputs: &[&[u8]]) -> Result<Vec<u32>, TargetError> {
        let mut digests = vec![];
        self.run_observed(inputs, Mode::Digest, |report| digests.push(report.digest))?;
        Ok(digests)
    }

    fn begin_learning(&mut self) -> Result<(), TargetError> {
        let needed = self.model.as_ref().ok_or(TargetError::NoModel)?.train_arena_bytes;
        self.fits("the arena, learning,", needed, |facts| facts.arena)?;
        Ok(self.client.begin_learning()?)
    }

    fn learn(&mut self, inputs: &[&[u8]], label: u16) -> Result<TrainStepReport, TargetError> {
        self.write_inputs(inputs)?;
        Ok(self.client.learn(label)?)
    }

    fn fit(&mut self, inputs: &[&[u8]], targets: &[f32]) -> Result<TrainStepReport, TargetError> {
        self.write_inputs(inputs)?;
        Ok(self.client.fit(targets)?)
    }

    fn learned(&mut self) -> Result<Vec<u8>, TargetError> {
        let len = self.model.as_ref().ok_or(TargetError::NoModel)?.learned_bytes;
        Ok(self.client.read_learned(len)?)
    }

    fn scores(&mut self) -> Result<Vec<f32>, TargetError> {
        let model = self.model.as_ref().ok_or(TargetError::NoModel)?;
        let classes = model.answer_classes.ok_or(offshoot::Error::NoSuchTensor)?;
        Ok(self.client.read_scores(classes.into())?)
    }

    fn set_active_blocks(&mut self, blocks: u8) -> Result<(), TargetError> {
        Ok(self.client.set_active_blocks(blocks)?)
    }

    fn write_learned(&mut self, learned: &[u8]) -> Result<(), TargetError> {
        let needed = self.model.as_ref().ok_or(TargetError::NoModel)?.learned_bytes;
        if learned.len() != needed {
            return Err(offshoot::Error::Length.into());
        }
        Ok(self.client.write_learned(learned)?)
    }

    fn set_course(&mut self, steps: u32) -> Result<(), TargetError> {
        Ok(self.client.set_course(steps)?)
    }

    fn save(&mut self) -> Result<u32, TargetError> {
        Ok(self.client.save()?)
    }

    fn restore(&mut self) -> Result<u32, TargetError> {
        Ok(self.client.restore()?)
    }

    fn forget(&mut self, flash: bool) -> Result<(), TargetError> {
        Ok(self.client.forget(flash)?)
    }

    fn reopen(&mut self) -> Result<u32, TargetError> {
        self.model.take().ok_or(TargetError::NoModel)?;
        // The file is stored with its first network.
        let first = self.networks.first().ok_or(TargetError::NoModel)?;
        let (off, in_flash) = (first.off.clone(), first.in_flash);
        self.load_with(&off, in_flash)?;
        Ok(self.model.as_ref().map_or(0, |m| m.restored))
    }

    fn run_count(&self) -> Option<u64> {
        self.model.as_ref().map(|m| u64::from(m.run_count)).filter(|&count| count > 0)
    }

    fn arena_used(&self) -> u32 {
        self.model.as_ref().map_or(0, |m| m.arena_used)
    }
}

/// A count as (instructions, cycles, nanoseconds), of which its unit is set.
fn in_unit(unit: CountUnit, count: u32) -> (Option<u64>, Option<u64>, Option<u64>) {
    let count = Some(u64::from(count));
    match unit {
        CountUnit::Instructions => (count, None, None),
        CountUnit::Cycles => (None, count, None),
        CountUnit::Nanoseconds => (None, None, count),
        CountUnit::None => (None, None, None),
    }
}
