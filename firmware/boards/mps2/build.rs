//! Memory map and linker scripts.

#[path = "../shared/build_board.rs"]
mod build_board;

fn main() {
    let has = |feature: &str| std::env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    let map = match (has("AN505"), has("AN547")) {
        (false, false) => "memory/an38x.x",
        (true, false) => "memory/an505.x",
        (false, true) => "memory/an547.x",
        (true, true) => panic!("one image a build: an505 or an547"),
    };
    if has("DEFMT") {
        build_board::board(map, &["link.x", "defmt.x"]);
    } else {
        build_board::board(map, &["link.x"]);
    }
}
