//! What is done with a file on a target: runs, further networks, train steps, saving and restoring.

use crate::dice::Dice;
use crate::mutant;
use offshoot::Model;
use offshoot::format::record::IoRepr;
use offshoot_target::{Device, TargetError};

/// A file, and the inputs and labels that it gets.
#[derive(Clone, Debug)]
pub struct Exercise {
    /// The file.
    pub file: Vec<u8>,
    /// For each network, samples of one tensor per input.
    samples: Vec<Vec<Vec<Vec<u8>>>>,
    /// Labels of the train steps; empty for a file that does not learn.
    labels: Vec<u16>,
    /// Whether there is a classifier head.
    has_head: bool,
}

/// Largest file, arena and work that are tried: an emulator runs them in moments.
const MOST_FILE: usize = 64 << 10;
const MOST_ARENA: u32 = 256 << 10;
const MOST_WORK: u64 = 1 << 19;

/// Samples for each network.
const SAMPLES: usize = 2;

/// What a target gave, step by step.
pub type Answers = Vec<(String, Vec<u8>)>;

impl Exercise {
    /// For a file that opens and is small; the model is that of `file`.
    pub fn of(file: &[u8], model: &Model<'_>, dice: &mut Dice) -> Option<Self> {
        let arena = model.train_arena_bytes().unwrap_or(0).max(model.arena_bytes());
        if file.len() > MOST_FILE || arena > MOST_ARENA || model.work() > MOST_WORK {
            return None;
        }
        let networks = (0..model.network_count()).map(|i| model.network(i).ok());
        let samples = networks.map(|network| {
            let network = network?;
            let inputs: Vec<IoRepr> = (0..).map_while(|i| network.input(i)).collect();
            Some((0..SAMPLES).map(|_| inputs.iter().map(|io| mutant::input(io, dice)).collect()).collect())
        });
        let samples = samples.collect::<Option<_>>()?;
        let learning = model.learning();
        let classes = learning.as_ref().map_or(0, |l| usize::from(l.classes()));
        let labels = (0..if classes > 0 { 4 } else { 0 }).map(|_| dice.below(classes) as u16).collect();
        let has_head = learning.is_some_and(|l| l.head.classifier.is_some());
        Some(Self { file: file.to_vec(), samples, labels, has_head })
    }

    /// Whether the file learns.
    pub fn learns(&self) -> bool {
        !self.labels.is_empty()
    }

    /// Does it all on a device that has loaded the file.
    pub fn on(&self, device: &mut dyn Device) -> Answers {
        let mut answers = Answers::new();
        let mut put = |what: String, answer: Result<Vec<u8>, TargetError>| {
            // The words of an error may differ.
            answers.push((what, answer.unwrap_or_else(|_| b"an error".to_vec())));
        };
        for (network, samples) in self.samples.iter().enumerate() {
            put(format!("network {network}"), device.select(network).map(|_| Vec::new()));
            for (i, sample) in samples.iter().enumerate() {
                let sample: Vec<&[u8]> = sample.iter().map(Vec::as_slice).collect();
                if i == 0 {
                    let digests = device.digests(&sample);
                    match digests {
                        Ok(all) => all.iter().enumerate().for_each(|(op, digest)| {
                            put(
                                format!("network {network}, operator {op}"),
                                Ok(digest.to_le_bytes().to_vec()),
                            );
                        }),
                        Err(error) => put(format!("network {network}, operators"), Err(error)),
                    }
                }
                put(format!("network {network}, sample {i}"), device.run(&sample).map(|o| o.concat()));
            }
        }
        if self.learns() {
            self.learn(device, &mut put);
        }
        answers
    }

    fn learn(&self, device: &mut dyn Device, put: &mut impl FnMut(String, Result<Vec<u8>, TargetError>)) {
        put("first network".into(), device.select(0).map(|_| Vec::new()));
        put("begin".into(), device.begin_learning().map(|()| Vec::new()));
        let samples: Vec<Vec<&[u8]>> =
            self.samples[0].iter().map(|sample| sample.iter().map(Vec::as_slice).collect()).collect();
        for (step, &label) in self.labels.iter().enumerate() {
            let report = device.learn(&samples[step % samples.len()], label);
            put(
                format!("step {step}"),
                report.map(|r| [r.guess.into(), r.steps].map(u32::to_le_bytes).concat()),
            );
        }
        put("learned".into(), device.learned());
        let run = |device: &mut dyn Device| device.run(&samples[0]).map(|outputs| outputs.concat());
        put("run after learning".into(), run(device));
        if self.has_head {
            let bits =
                |scores: Vec<f32>| scores.into_iter().flat_map(|s| s.to_bits().to_le_bytes()).collect();
            put("scores".into(), device.scores().map(bits));
            put("one block".into(), device.set_active_blocks(1).map(|()| Vec::new()));
            put("run of one block".into(), run(device));
            let bits =
                |scores: Vec<f32>| scores.into_iter().flat_map(|s| s.to_bits().to_le_bytes()).collect();
            put("scores of one block".into(), device.scores().map(bits));
        }
        // Boards without flash for it cannot save; the answers end here.
        if device.save().is_err() {
            return;
        }
        put("save".into(), Ok(Vec::new()));
        put("forget".into(), device.forget(false).map(|()| Vec::new()));
        put("run, forgotten".into(), run(device));
        put("restore".into(), device.restore().map(|_| Vec::new()));
        put("run, restored".into(), run(device));
        let again = device.learn(&samples[0], self.labels[0]);
        put("step, restored".into(), again.map(|r| [r.guess.into(), r.steps].map(u32::to_le_bytes).concat()));
        put("learned again".into(), device.learned());
        put("erase".into(), device.forget(true).map(|()| Vec::new()));
    }
}
