//! A GRU on spoken digits: trained through time on the host, quantised, and counted on the emulated Cortex-M4.
//!
//! `cargo run --release -p offshoot-cli --example gru_digits -- FOLDER [UNITS [EPOCHS [SEED]]]`
//!
//! FOLDER holds `x.npy` (samples, frames, coefficients), `y.npy` and `take.npy`; takes below 5 are judged on, the others
//! learned from. Coefficients are standardised by those that are learned from. The trained network is kept in
//! `target/gru_digits` and not trained again. Prints one JSON object; the count needs `firmware/build.sh`.

use std::error::Error;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, Axis};
use offshoot_cli::batch::{self, Inputs};
use offshoot_cli::commands::profile;
use offshoot_cli::files::{self, OffFile};
use offshoot_cli::ui::Ui;
use offshoot_compress::quantize::{QuantizeOptions, quantize};
use offshoot_data::npy;
use offshoot_export::{CompileOptions, compile};
use offshoot_target::Target as Board;
use offshoot_train::network::Network;
use offshoot_train::{Control, Dataset, Epoch, FitOptions, Observer, Target, accuracy, fit};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BOARD: &str = "qemu:cortex-m4";

struct Say;

impl Observer for Say {
    fn epoch(&mut self, epoch: &Epoch) -> Control {
        eprintln!("epoch {epoch:?}");
        Control::Continue
    }
}

/// Takes, split: what is learned from, and what is judged on.
struct Digits {
    train: (ArrayD<f32>, Vec<i64>),
    test: (ArrayD<f32>, Vec<i64>),
}

impl Digits {
    fn read(folder: &Path) -> Result<Self> {
        let whole = |name: &str| -> Result<Vec<i64>> {
            Ok(npy::read(&folder.join(name))?.to_i64()?.iter().copied().collect())
        };
        let (x, y, take) = (npy::read(&folder.join("x.npy"))?.to_f32(), whole("y.npy")?, whole("take.npy")?);
        let part = |keep: &dyn Fn(i64) -> bool| {
            let chosen: Vec<usize> = (0..y.len()).filter(|&i| keep(take[i])).collect();
            (x.select(Axis(0), &chosen), chosen.iter().map(|&i| y[i]).collect::<Vec<_>>())
        };
        let (mut train, mut test) = (part(&|take| take >= 5), part(&|take| take < 5));
        for c in 0..x.shape()[2] {
            let column = train.0.index_axis(Axis(2), c);
            let (mean, deviation) = (column.mean().unwrap_or(0.0), column.std(0.0).max(1e-6));
            for part in [&mut train.0, &mut test.0] {
                part.index_axis_mut(Axis(2), c).mapv_inplace(|v| (v - mean) / deviation);
            }
        }
        Ok(Self { train, test })
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, usual: usize| arguments.get(i).map_or(Ok(usual), |a| a.parse());
    let folder = PathBuf::from(arguments.first().ok_or("the folder of spoken digits is missing")?);
    let (units, epochs, seed) = (number(1, 64)?, number(2, 20)?, number(3, 0)?);
    let digits = Digits::read(&folder)?;
    let (steps, inputs) = (digits.train.0.shape()[1], digits.train.0.shape()[2]);

    // What it was made of, for `scripts/gru-sparse-table.sh`.
    std::fs::create_dir_all("target/gru_digits")?;
    for (name, (x, y)) in [("train", &digits.train), ("test", &digits.test)] {
        let at = |what: &str| PathBuf::from(format!("target/gru_digits/{name}_{what}.npy"));
        npy::write(&at("x"), &x.clone().into())?;
        npy::write(&at("y"), &ArrayD::from_shape_vec(vec![y.len()], y.clone())?.into())?;
    }
    let kept = PathBuf::from(format!("target/gru_digits/gru{units}-{epochs}-{seed}.onnx"));
    if !kept.exists() {
        let graph = Network::gru("gru", [steps, inputs], units, 10, seed as u64);
        let set = Dataset::new(digits.train.0.clone(), Target::Labels(digits.train.1.clone()));
        let options = FitOptions {
            epochs,
            batch: 32,
            rate: 3e-3,
            clip: Some(1.0),
            seed: seed as u64,
            ..FitOptions::default()
        };
        let (trained, _) = fit(&graph, &set, &options, &mut Say)?;
        offshoot_report::write_atomically(&kept, &offshoot_import::emit(&trained)?)?;
    }
    let (graph, _) = files::read_graph(&kept)?;
    let float = accuracy(&graph, &digits.test.0, &digits.test.1)?;

    let calibration: Vec<Vec<ArrayD<f32>>> =
        (0..digits.train.1.len()).step_by(20).map(|i| vec![digits.train.0.select(Axis(0), &[i])]).collect();
    let (quantised, report) = quantize(&graph, &calibration, &QuantizeOptions::default())?;
    let made = compile(&quantised, &CompileOptions::default())?;
    let float_made = compile(&graph, &CompileOptions::default())?;
    let file = OffFile::from_bytes(&made.bytes);
    let ui = Ui { json: true };
    let inputs = Inputs::encode(&file.model()?, &[digits.test.0.clone().into()], &["x".into()])?;
    let outputs = batch::run(&ui, &file, &inputs, &Board::Host, batch::Sequences::default())?;
    let hits = outputs.iter().zip(&digits.test.1).filter(|(out, y)| {
        // int8 scores: the largest, of equal ones the first.
        let scores: Vec<i8> = out[0].iter().map(|&b| b as i8).collect();
        let best = (0..scores.len()).fold(0, |best, k| if scores[k] > scores[best] { k } else { best });
        best as i64 == **y
    });
    let int8 = hits.count() as f64 / digits.test.1.len() as f64;
    let mut counted = serde_json::json!(null);
    if let Ok(mut device) = offshoot_target::open(&Board::parse(BOARD)?) {
        let one = inputs.head(1);
        let report = profile::profile(device.as_mut(), &file, &one, BOARD, None)?;
        let host = batch::run(&ui, &file, &one, &Board::Host, batch::Sequences::default())?;
        assert_eq!(
            host,
            batch::run(&ui, &file, &one, &Board::parse(BOARD)?, batch::Sequences::default())?,
            "the board departs from the host"
        );
        counted = serde_json::to_value(&report)?;
    }
    let all = serde_json::json!({
        "network": { "units": units, "epochs": epochs, "seed": seed },
        "test_samples": digits.test.1.len(),
        "float32_accuracy": float,
        "int8_accuracy": int8,
        "int8_off_bytes": made.bytes.len(),
        "float32_off_bytes": float_made.bytes.len(),
        "arena_bytes": made.report.arena_bytes,
        "held_out_snr_db": report.held_out_snr_db,
        "warnings": report.warnings,
        "board": counted,
    });
    println!("{all:#}");
    Ok(())
}
