//! Training on disk: everything that the next step needs, in one file that is replaced atomically.

use std::path::Path;

use offshoot_ir::Graph;
use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Target};
use crate::error::{Error, Result};
use crate::fake_quant::ActivationRanges;
use crate::options::{Epoch, FitOptions, Judgement};
use crate::weights::Moving;

/// First bytes of a checkpoint; the last one is the version.
const MAGIC: [u8; 8] = *b"OFFTRN\0\x02";

/// The state between two steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Fingerprint of graph, samples and options: a checkpoint only continues the training that made it.
    pub(crate) fingerprint: u32,
    /// Steps made so far.
    pub(crate) step: usize,
    pub(crate) graph: Graph,
    pub(crate) moving: Moving,
    pub(crate) ranges: Option<ActivationRanges>,
    pub(crate) epochs: Vec<Epoch>,
    /// Sum of the losses of the current epoch.
    pub(crate) total: f64,
    /// Best epoch so far, with its judgement, graph and state.
    pub(crate) best: Option<(usize, Judgement, Graph, Moving, Option<ActivationRanges>)>,
}

impl Progress {
    /// Writes the file.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let fail = |reason: String| Error::Checkpoint { path: path.to_path_buf(), reason };
        let body = postcard::to_stdvec(self).map_err(|e| fail(e.to_string()))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(crc32fast::hash(&body).to_le_bytes());
        bytes.extend(body);
        offshoot_report::write_atomically(path, &bytes).map_err(|e| fail(e.to_string()))
    }

    /// Reads the file; `None` if it does not exist.
    pub(crate) fn load(path: &Path, fingerprint: u32) -> Result<Option<Self>> {
        let fail = |reason: String| Error::Checkpoint { path: path.to_path_buf(), reason };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fail(e.to_string())),
        };
        let damaged =
            || fail("it is damaged, or not a checkpoint of this version; remove it to start afresh".into());
        let body = bytes.strip_prefix(&MAGIC).and_then(|b| b.split_first_chunk::<4>());
        let (crc, body) = body.ok_or_else(damaged)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err(damaged());
        }
        let progress: Self = postcard::from_bytes(body).map_err(|_| damaged())?;
        if progress.fingerprint != fingerprint {
            let reason =
                "it belongs to another network, other samples or other options; remove it to start afresh";
            return Err(fail(reason.into()));
        }
        Ok(Some(progress))
    }
}

/// Fingerprint of everything that determines the result of training.
pub(crate) fn fingerprint(graph: &Graph, data: &Dataset, options: &FitOptions) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    let mut add_graph = |graph: &Graph| {
        // A graph in memory always serialises.
        hash.update(&postcard::to_stdvec(graph).unwrap_or_default());
    };
    add_graph(graph);
    if let Some(teacher) = &options.teacher {
        add_graph(&teacher.graph);
    }
    for data in [Some(data), options.validation.as_ref()].into_iter().flatten() {
        for x in &data.inputs {
            x.iter().for_each(|v| hash.update(&v.to_le_bytes()));
        }
        match &data.target {
            Target::Labels(labels) => labels.iter().for_each(|l| hash.update(&l.to_le_bytes())),
            Target::Values(values) => values.iter().for_each(|v| hash.update(&v.to_le_bytes())),
            Target::Unlabelled => {}
        }
    }
    let o = options;
    let settings = (
        (o.epochs, o.batch, o.rate, o.schedule, o.rule, o.decay, o.smoothing, o.clip, o.seed),
        (o.batch_statistics, &o.frozen, &o.masks, &o.weight_quant, o.activation_quant, &o.transform),
        (&o.fade, &o.augment, o.mix, o.noise),
        (&o.activation_ranges, &o.device),
        (o.patience, o.teacher.as_ref().map(|t| (t.temperature, t.weight, &t.features))),
    );
    hash.update(format!("{settings:?}").as_bytes());
    hash.finalize()
}
