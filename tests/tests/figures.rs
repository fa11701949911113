//! No figure of `cargo xtask bench` grows by more than 1 % against the committed ones: instructions on every emulated
//! board, arena, file. Counts are deterministic, so this holds on any machine.
//!
//! `OFFSHOOT_SKIP_EMULATED=1` skips this where there is no QEMU, and says so.

use offshoot_cli::commands::compile::Prefer;
use offshoot_tests::{root, skip_emulated};
use offshoot_xtask::bench::figures::{self, Figures};
use offshoot_xtask::bench::measure::Measured;
use offshoot_xtask::bench::{boards, data_folder, measure, networks};

#[test]
fn no_figure_grows_against_the_committed_ones() {
    if skip_emulated() {
        return;
    }
    let committed = Figures::read_or_empty(&root().join(figures::FILE)).unwrap();
    let mut measured = Figures::default();
    for network in networks::all() {
        let Some(source) = network.find(&data_folder()) else {
            offshoot_tests::skip(format_args!("{} is absent", network.path(&data_folder()).display()));
            continue;
        };
        for prefer in [Prefer::Balanced, Prefer::Speed] {
            let off = network.compile(&source, prefer).unwrap();
            for board in boards() {
                let own = network.own_file(&source, prefer, &board).unwrap();
                let file = own.as_ref().unwrap_or(&off);
                match measure::measure(&network, prefer, file, &board, false).unwrap() {
                    Measured::Row(row) => measured.rows.push(row),
                    Measured::DoesNotFit(why) => {
                        assert!(!committed.fits(&network.case(prefer, &board)), "{}: {why}", network.name);
                    }
                }
            }
        }
    }
    for row in &measured.rows {
        assert!(committed.fits(&row.case()), "{}: no committed figure", row.case());
    }
    let changes = committed.changes(&measured);
    changes.iter().for_each(|change| println!("{change}"));
    let grown: Vec<String> = changes.iter().filter(|c| c.is_growth()).map(ToString::to_string).collect();
    assert!(grown.is_empty(), "{}\nif that is meant: cargo xtask bench --update", grown.join("\n"));
}
