//! The guide in `docs/src`: its commands run, in order, as a reader would type them; what it names exists.
//!
//! `docs/README.md` says how a page marks its commands.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use offshoot_tests::{data, root, skip_emulated};

/// A fenced block of a page.
struct Block {
    /// Line of its fence.
    line: usize,
    /// Words behind the fence's backticks.
    marks: Vec<String>,
    text: String,
}

impl Block {
    fn is(&self, mark: &str) -> bool {
        self.marks.iter().any(|m| m == mark)
    }
}

/// Fenced blocks of a Markdown text.
fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = vec![];
    let mut open = false;
    for (i, line) in text.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(info) => {
                open = true;
                let marks = info.split([',', ' ']).map(str::to_owned).collect();
                found.push(Block { line: i + 1, marks, text: String::new() });
            }
            None if open => {
                let block = found.last_mut().expect("a fence was opened");
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {}
        }
    }
    assert!(!open, "the last fence is not closed");
    found
}

/// Pages in the order of the summary.
fn pages() -> Vec<(String, String)> {
    let folder = root().join("docs/src");
    let summary = std::fs::read_to_string(folder.join("SUMMARY.md")).unwrap();
    let link = |line: &str| {
        let (_, rest) = line.split_once("](")?;
        rest.split_once(')').map(|(page, _)| page.to_owned())
    };
    let names: Vec<String> = summary.lines().filter_map(link).collect();
    assert!(names.len() > 5, "the summary lists no pages");
    let read = |name: String| {
        let text = std::fs::read_to_string(folder.join(&name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        (name, text)
    };
    names.into_iter().map(read).collect()
}

/// The folder of the binary that `cargo build` or `cargo test --workspace` made.
fn programs() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let folder = exe.parent().unwrap().parent().unwrap().to_path_buf();
    let bin = folder.join("offshoot");
    assert!(bin.exists(), "{} is missing: run `cargo build -p offshoot-cli` first", bin.display());
    folder
}

/// Runs a block in `folder`; panics with what it printed if it fails.
fn run(page: &str, block: &Block, folder: &Path, data: &Path) {
    let path = format!("{}:{}", programs().display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &block.text])
        .current_dir(folder)
        .env("PATH", path)
        .env("OFFSHOOT_DATA", data)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "docs/src/{page}:{} fails:\n{}\n{}{}",
        block.line,
        block.text,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[cfg(unix)]
#[test]
fn commands_of_the_guide_run() {
    let emulated = !skip_emulated();
    let public = data("mlperf_tiny");
    let models = root().join("models").canonicalize().unwrap();
    let (mut ran, mut skipped) = (0, vec![]);
    for (page, text) in pages() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(&models, folder.path().join("models")).unwrap();
        let start = Instant::now();
        for block in blocks(&text).iter().filter(|b| b.is("sh") && !b.is("repository")) {
            let here = public.as_deref().and_then(Path::parent);
            if (block.is("emulated") && !emulated) || (block.is("data") && here.is_none()) {
                skipped.push(format!("docs/src/{page}:{}", block.line));
                continue;
            }
            let here = here.map(|p| p.canonicalize().unwrap()).unwrap_or_default();
            run(&page, block, folder.path(), &here);
            ran += 1;
        }
        println!("{page}: {:.1} s", start.elapsed().as_secs_f64());
    }
    skipped.iter().for_each(|place| println!("skipped: {place}"));
    println!("{ran} blocks ran, {} were skipped", skipped.len());
    assert!(ran > 10);
}

/// Whether a word looks like a path in the repository.
fn is_path(word: &str) -> bool {
    const FOLDERS: [&str; 9] =
        ["runtime/", "tools/", "tests/", "firmware/", "models/", "scripts/", "docs/", "fuzz/", ".ci/"];
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    // NAME stands for what the reader chooses.
    // Pages name the crates of the runtime's family; before it is split there are none.
    let split = !word.starts_with("runtime/") || root().join("runtime/operators").exists();
    plain && split && !word.contains("NAME") && FOLDERS.iter().any(|f| word.starts_with(f))
}

/// Documents that people read first, and the guide.
fn documents() -> Vec<(PathBuf, String)> {
    let mut files: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].iter().map(|f| root().join(f)).collect();
    let folders = ["docs", "docs/src", "docs/results", "firmware", "tests", "tools", "models"];
    let crates = std::fs::read_dir(root().join("tools")).unwrap().map(|e| e.unwrap().path());
    for folder in folders.iter().map(|f| root().join(f)).chain(crates).filter(|f| f.is_dir()) {
        let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
        files.extend(entries.filter(|p| p.extension().is_some_and(|e| e == "md")));
    }
    files.sort();
    files.into_iter().map(|f| (f.clone(), std::fs::read_to_string(&f).unwrap())).collect()
}

#[test]
fn files_and_links_of_the_documents_exist() {
    let mut missing = vec![];
    for (file, text) in documents() {
        let folder = file.parent().unwrap();
        let name = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
        for (i, line) in text.lines().enumerate() {
            let mut check = |what: &str, places: &[PathBuf]| {
                if !places.iter().any(|place| place.exists()) {
                    missing.push(format!("{name}:{}: {what}", i + 1));
                }
            };
            // Words in backticks, the odd pieces.
            for code in line.split('`').skip(1).step_by(2).filter(|code| is_path(code)) {
                check(code, &[root().join(code), folder.join(code)]);
            }
            for (target, _) in line.split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
                let target = target.split('#').next().unwrap_or_default();
                if !target.is_empty() && !target.contains("://") {
                    check(target, &[folder.join(target)]);
                }
            }
        }
    }
    assert!(missing.is_empty(), "these are not there:\n{}", missing.join("\n"));
}

#[test]
fn commands_of_the_repository_name_what_exists() {
    let manifest = |package: &str| {
        let all = ["tools", "runtime"].iter().flat_map(|f| std::fs::read_dir(root().join(f)).unwrap());
        let folders = all.map(|e| e.unwrap().path()).chain([root().join("tests"), root().join("runtime")]);
        let named = format!("name = \"{package}\"");
        folders.into_iter().find(|f| {
            std::fs::read_to_string(f.join("Cargo.toml")).is_ok_and(|text| {
                // The package's own name comes first.
                text.lines().find(|l| l.starts_with("name = ")) == Some(named.as_str())
            })
        })
    };
    for (page, text) in pages() {
        for block in blocks(&text).iter().filter(|b| b.is("repository")) {
            for line in block.text.lines() {
                let at = format!("docs/src/{page}:{}: {line}", block.line);
                let words: Vec<&str> = line.split_whitespace().collect();
                let after = |flag: &str| words.iter().position(|w| *w == flag).and_then(|i| words.get(i + 1));
                match words[0] {
                    "cargo" if words[1] == "xtask" => {
                        assert!(["bench", "single"].contains(&words[2]), "{at}")
                    }
                    "cargo" => {
                        let folder = manifest(after("-p").unwrap_or_else(|| panic!("{at}")));
                        let folder = folder.unwrap_or_else(|| panic!("{at}: no such package"));
                        if let Some(test) = after("--test") {
                            assert!(folder.join(format!("tests/{test}.rs")).exists(), "{at}: no such test");
                        }
                    }
                    script => assert!(root().join(script).exists(), "{at}: no such script"),
                }
            }
        }
    }
}
