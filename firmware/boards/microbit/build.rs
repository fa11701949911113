//! Memory map and linker scripts.

#[path = "../shared/build_board.rs"]
mod build_board;

fn main() {
    build_board::board("memory.x", &["link.x"]);
}
