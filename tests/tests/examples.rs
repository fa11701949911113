//! Examples of the runtime: their files are what the compiler makes, and each prints an answer.
//!
//! `cargo test -p offshoot-tests --test examples -- --ignored write` makes the files anew, after a change of the file format, say.

use offshoot_tests::{example_data, root};

#[test]
#[ignore = "writes files of the repository"]
fn write_the_files_of_the_examples() {
    for (path, bytes) in example_data::quick().into_iter().chain([example_data::sub_networks()]) {
        let path = root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        println!("{}: {} bytes", path.display(), bytes.len());
    }
}
