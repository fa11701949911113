//! The files in `models/` and, where they are at hand, arrays that NumPy wrote.

use std::path::{Path, PathBuf};

use offshoot_data::npy::Array;
use offshoot_data::synth::{Condition, Task};
use offshoot_data::{load, npz};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Seeds and sizes stand on the models' cards.
#[test]
fn shipped_samples_are_what_the_generators_give() {
    for task in Task::ALL {
        let shipped = load(&workspace().join("models").join(task.name()).join("test_x.npy")).unwrap();
        let made = task.generate(Condition::Usual, 2, shipped.len());
        assert_eq!((&shipped.x, &shipped.y), (&made.x, &made.y), "{}: make the models again", task.name());
    }
}

#[test]
fn archives_of_numpy_are_read() {
    let Some(path) = offshoot_skip::data("golden_operators/kws_layers.npz") else { return };
    let layers = npz::read(&path).unwrap();
    assert!(
        layers
            .iter()
            .all(|(name, a)| name.starts_with("op") && matches!(a, Array::I8(a) if a.shape()[0] == 8))
    );
    assert!(layers.len() > 10);
}
