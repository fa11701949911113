//! Memory map and linker scripts.

#[path = "../shared/build_board.rs"]
mod build_board;

fn main() {
    // The map comes first: riscv-rt's script uses its regions.
    build_board::board("memory.x", &["memory.x", "link.x"]);
}
