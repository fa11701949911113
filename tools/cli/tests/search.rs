//! `offshoot search` on a small network: what it writes, that a search that was cut off goes on without repeating itself, and
//! that a batch system can do the work.

use std::path::{Path, PathBuf};
use std::process::Command;

use ndarray::{Array, ArrayD};
use serde_json::Value;

/// Images of stripes across, stripes along, squares, and noise alone.
fn material(folder: &Path) -> [PathBuf; 3] {
    let mut state = 7_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let labels: Vec<i64> = (0..200).map(|i| i % 4).collect();
    let x: ArrayD<f32> = Array::from_shape_fn((200, 8, 8, 1), |(i, h, w, _)| {
        let sign = |n: usize| if n.is_multiple_of(2) { 0.6 } else { -0.6 };
        random() + [sign(h), sign(w), sign(h + w), 0.0][labels[i] as usize]
    })
    .into_dyn();
    let paths = ["space.toml", "x.npy", "y.npy"].map(|name| folder.join(name));
    let space = r#"
        family = "ds-cnn"
        [network]
        input = [8, 8, 1]
        classes = 4
        stem = 12
        stem_kernel = [3, 3]
        widths = [12]
        blocks = [2]
        [elastic]
        width = [0.34, 0.67, 1.0]
        depth = true
        bits = [2, 4, 8]
        [training]
        epochs = 12
        batch = 32
        rate = 1e-2
    "#;
    std::fs::write(&paths[0], space).unwrap();
    offshoot_data::npy::write(&paths[1], &x.into()).unwrap();
    offshoot_data::npy::write(&paths[2], &ArrayD::from_shape_vec(vec![200], labels).unwrap().into()).unwrap();
    paths
}

fn search(
    paths: &[PathBuf; 3],
    out: &Path,
    more: &[&str],
    environment: &[(&str, &str)],
) -> Result<Value, Value> {
    let [space, x, y] = paths.each_ref().map(|p| p.to_str().unwrap());
    let fixed = [
        "--json",
        "search",
        space,
        "--data",
        x,
        y,
        "--objectives",
        "accuracy,flash",
        "-o",
        out.to_str().unwrap(),
    ];
    let run = Command::new(env!("CARGO_BIN_EXE_offshoot"))
        .args(fixed)
        .args(more)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    let value: Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}\n{}", String::from_utf8_lossy(&run.stderr)));
    if run.status.success() { Ok(value) } else { Err(value) }
}

fn lines(out: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(out.join("evaluations.jsonl")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn keys(lines: &[String]) -> Vec<String> {
    let key = |l: &String| serde_json::from_str::<Value>(l).unwrap()["key"].as_str().unwrap().to_owned();
    lines.iter().map(key).collect()
}

#[test]
fn a_search_is_cut_off_and_goes_on_and_its_points_compile() {
    let folder = tempfile::tempdir().unwrap();
    let paths = material(folder.path());
    let out = folder.path().join("out");
    let whole = search(&paths, &out, &["--evaluations", "30"], &[]).unwrap();
    assert_eq!((whole["evaluations"].as_u64(), whole["evaluated"].as_u64()), (Some(30), Some(30)));
    let front = whole["front"].as_array().unwrap();
    assert!(!front.is_empty() && front.iter().any(|p| p["measured"]["accuracy"].as_f64().unwrap() > 0.8));
    let all = lines(&out);
    assert_eq!(all.len(), 30);

    // Cut off in the middle of a line: nothing that was finished is evaluated again, and the end is the same.
    let text = std::fs::read(out.join("evaluations.jsonl")).unwrap();
    let finished: usize = all[..17].iter().map(|l| l.len() + 1).sum();
    std::fs::write(out.join("evaluations.jsonl"), &text[..finished + 9]).unwrap();
    let again = search(&paths, &out, &["--evaluations", "30"], &[]).unwrap();
    assert_eq!(again["evaluated"].as_u64(), Some(13));
    assert_eq!(again["front"], whole["front"]);
    let resumed = lines(&out);
    assert_eq!(resumed[..17], all[..17]);
    let sorted = |lines: &[String]| {
        let mut keys = keys(lines);
        keys.sort();
        keys.dedup();
        keys
    };
    assert_eq!((resumed.len(), sorted(&resumed)), (30, sorted(&all)), "none twice, none lost");

    // Each point is as it says, and its command makes it again.
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    for p in front {
        let dir = PathBuf::from(p["folder"].as_str().unwrap());
        let off = std::fs::read(dir.join("model.off")).unwrap();
        assert_eq!(off.len() as u64, p["measured"]["flash"].as_u64().unwrap());
        assert!(page.contains(&format!("href=\"#point-{}\"", p["id"].as_str().unwrap())));
    }
    let point = front.iter().find(|p| !p["policy"].as_object().unwrap().is_empty()).unwrap_or(&front[0]);
    let command = point["command"].as_str().unwrap();
    let made = folder.path().join("made.off");
    let words: Vec<&str> = command
        .split(' ')
        .skip(1)
        .map(|w| if w == "model.off" { made.to_str().unwrap() } else { w })
        .collect();
    let run = Command::new(env!("CARGO_BIN_EXE_offshoot")).args(&words).output().unwrap();
    assert!(run.status.success(), "{command}: {}", String::from_utf8_lossy(&run.stderr));
    let (flash, wanted) =
        (std::fs::metadata(&made).unwrap().len(), point["measured"]["flash"].as_u64().unwrap());
    assert!(flash.abs_diff(wanted) <= wanted / 20, "{command}: {flash} bytes, {wanted} in the search");

    // Limits are kept, or it is said what came nearest.
    let small = search(&paths, &out, &["--evaluations", "30", "--max-flash", "3k"], &[]).unwrap();
    assert!(
        small["front"].as_array().unwrap().iter().all(|p| p["measured"]["flash"].as_u64().unwrap() <= 3000)
    );
    let none = search(&paths, &out, &["--evaluations", "20", "--max-flash", "100"], &[]).unwrap_err();
    assert!(none["error"]["message"].as_str().unwrap().contains("the nearest"), "{none}");
    // Another split is another search.
    let other = search(&paths, &out, &["--seed", "5"], &[]).unwrap_err();
    assert_eq!(other["error"]["kind"], "mismatch");
}

#[test]
fn slurm_does_the_work_as_an_array() {
    let folder = tempfile::tempdir().unwrap();
    let paths = material(folder.path());
    // What `sbatch --wait` does, here and one after another.
    let sbatch = folder.path().join("sbatch");
    let text = "#!/bin/sh\nfor script; do :; done\n\
                last=$(sed -n 's/^#SBATCH --array=0-//p' \"$script\")\n\
                for i in $(seq 0 \"$last\"); do SLURM_ARRAY_TASK_ID=$i sh \"$script\" >/dev/null || exit 1; done\necho 1\n";
    std::fs::write(&sbatch, text).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&sbatch, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let program = [("OFFSHOOT_SBATCH", sbatch.to_str().unwrap())];
    let arguments = ["--evaluations", "8", "--strategy", "random"];
    let (near, far) = (folder.path().join("near"), folder.path().join("far"));
    let here = search(&paths, &near, &arguments, &[]).unwrap();
    let there = search(&paths, &far, &[&arguments[..], &["--executor", "slurm"]].concat(), &program).unwrap();
    let strip =
        |v: &Value| v["front"].as_array().unwrap().iter().map(|p| p["measured"].clone()).collect::<Vec<_>>();
    assert_eq!(strip(&here), strip(&there));
    assert_eq!(lines(&far).len(), 8);
    let refused = search(
        &paths,
        &folder.path().join("none"),
        &[&arguments[..], &["--executor", "slurm"]].concat(),
        &[("OFFSHOOT_SBATCH", "/nonexistent/sbatch")],
    );
    let refused = refused.unwrap_err();
    assert!(refused["error"]["message"].as_str().unwrap().contains("slurm"), "{refused}");
}
