//! `offshoot search --executor`: the real Ray, Dask and Slurm, with workers killed in the middle, and jobs that never
//! come back.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ndarray::{ArrayD, IxDyn};
use serde_json::Value;

/// A space of one small network, and its data.
fn material(folder: &Path) -> [PathBuf; 3] {
    let mut state = 7_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let x = ArrayD::from_shape_fn(IxDyn(&[300, 12, 12, 1]), |i| {
        random() + if (i[1] / 6 * 2 + i[2] / 6) == i[0] % 4 { 0.8 } else { 0.0 }
    });
    let y = ArrayD::from_shape_fn(IxDyn(&[300]), |i| (i[0] % 4) as i64);
    let paths = ["space.toml", "x.npy", "y.npy"].map(|name| folder.join(name));
    let space = r#"
        family = "ds-cnn"
        [network]
        input = [12, 12, 1]
        classes = 4
        stem = 24
        stem_kernel = [3, 3]
        widths = [24]
        blocks = [3]
        [elastic]
        width = [0.34, 0.67, 1.0]
        bits = [2, 4, 8]
        [training]
        epochs = 1
    "#;
    std::fs::write(&paths[0], space).expect("writes");
    offshoot_data::npy::write(&paths[1], &x.into()).expect("writes");
    offshoot_data::npy::write(&paths[2], &y.into()).expect("writes");
    paths
}

const COUNT: usize = 8;

fn search(paths: &[PathBuf; 3], out: &Path, executor: &str, environment: &[(&str, &str)]) -> Output {
    let [space, x, y] = paths.each_ref().map(|p| p.to_str().expect("text"));
    let out = out.to_str().expect("text");
    Command::new(env!("CARGO_BIN_EXE_offshoot"))
        .args(["--json", "search", space, "--data", x, y, "--objectives", "accuracy,flash", "-o", out])
        .args(["--strategy", "random", "--evaluations", &COUNT.to_string(), "--executor", executor])
        .envs(environment.iter().copied())
        .output()
        .expect("starts")
}

fn json(run: &Output) -> Value {
    let text = String::from_utf8_lossy(&run.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}\n{}", String::from_utf8_lossy(&run.stderr)))
}

fn front(report: &Value) -> Vec<Value> {
    let points = report["front"].as_array().unwrap_or_else(|| panic!("{report}"));
    points.iter().map(|p| p["measured"].clone()).collect()
}

/// Kills the first `most` workers that perform jobs of `folder`; with `parents`, the process that started each too.
#[cfg(target_os = "linux")]
fn kill_workers(folder: &Path, most: usize, parents: bool, done: &AtomicBool, killed: &AtomicUsize) {
    let wanted = folder.join("jobs").display().to_string();
    let read =
        |pid: &str, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    while !done.load(Ordering::Relaxed) && killed.load(Ordering::Relaxed) < most {
        for entry in std::fs::read_dir("/proc").expect("is there").flatten() {
            let name = entry.file_name();
            let pid = name.to_string_lossy();
            if !pid.bytes().all(|b| b.is_ascii_digit()) || killed.load(Ordering::Relaxed) >= most {
                continue;
            }
            let line = read(&pid, "cmdline");
            let words: Vec<&str> = line.split('\0').collect();
            let is_job = words.contains(&"--job") && words.iter().any(|w| w.starts_with(&wanted));
            // The shell or interpreter that starts it names the program first.
            if !is_job || words.first().is_none_or(|w| !w.ends_with("offshoot")) {
                continue;
            }
            let parent = read(&pid, "stat")
                .rsplit(')')
                .next()
                .and_then(|s| s.split_whitespace().nth(1).map(str::to_owned));
            let parent = parent.filter(|p| parents && p != "1");
            for victim in [Some(pid.to_string()), parent].into_iter().flatten() {
                let _ = Command::new("kill").args(["-9", &victim]).output();
            }
            killed.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs a search whose workers are killed, and compares it with one on this machine.
#[cfg(target_os = "linux")]
fn survives(executor: &str, parents: bool, environment: &[(&str, &str)]) {
    let folder = tempfile::tempdir().expect("a folder");
    let paths = material(folder.path());
    let (near, far) = (folder.path().join("near"), folder.path().join("far"));
    let here = json(&search(&paths, &near, "local", &[]));
    let (done, killed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let run = std::thread::scope(|scope| {
        scope.spawn(|| kill_workers(&far, 2, parents, &done, &killed));
        let run = search(&paths, &far, executor, environment);
        done.store(true, Ordering::Relaxed);
        run
    });
    let log = std::fs::read_to_string(far.join("jobs").join(format!("{executor}.log"))).unwrap_or_default();
    let there = json(&run);
    assert!(run.status.success(), "{there}\n{log}");
    assert!(killed.load(Ordering::Relaxed) > 0, "no worker was seen: {log}");
    assert_eq!(there["failed"], 0, "{}\n{log}", there["failures"]);
    assert_eq!(there["evaluations"], COUNT);
    assert_eq!(front(&here), front(&there), "{log}");
}

/// Whether `python3` has the package; says what is skipped if not.
#[cfg(target_os = "linux")]
fn has_package(name: &str) -> bool {
    let found = Command::new("python3").args(["-c", &format!("import {name}")]).output();
    let found = found.is_ok_and(|o| o.status.success());
    if !found {
        offshoot_skip::skip(format_args!("python3 has no package `{name}` (pip install {name})"));
    }
    found
}

#[cfg(target_os = "linux")]
#[test]
fn ray_works_and_outlives_killed_workers() {
    if has_package("ray") {
        survives("ray", true, &[("RAY_ADDRESS", ""), ("RAY_USAGE_STATS_ENABLED", "0")]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn dask_works_and_outlives_killed_workers() {
    if has_package("distributed") {
        survives("dask", true, &[]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn slurm_works_and_outlives_killed_workers() {
    let has = |program: &str| Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let missing = ["sbatch", "slurmctld", "slurmd", "munged"]
        .into_iter()
        .find(|p| !has(p).is_ok_and(|o| o.status.success()));
    if let Some(program) = missing {
        offshoot_skip::skip(format_args!("{program} is absent (Debian: slurm-wlm, munge)"));
        return;
    }
    let id =
        Command::new("id").arg("-u").output().map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    if id.ok().as_deref() != Some("0") {
        offshoot_skip::skip("a Slurm cluster of one node needs root to start");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm-node.sh");
    let port = (20_000 + std::process::id() % 20_000).to_string();
    let call = |words: &[&str]| {
        Command::new(&script).arg(words[0]).arg(folder.path()).args(&words[1..]).output().expect("starts")
    };
    struct Stop<F: Fn()>(F);
    impl<F: Fn()> Drop for Stop<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    let _stop = Stop(|| drop(call(&["stop"])));
    let started = call(&["start", &port]);
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let conf = folder.path().join("slurm.conf");
    survives("slurm", false, &[("SLURM_CONF", conf.to_str().expect("text"))]);
}

#[cfg(unix)]
#[test]
fn jobs_that_never_come_back_are_counted_and_tried_again_later() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let paths = material(folder.path());
    // What `sbatch --wait` does; the broken one never runs the job of the first candidate's key.
    let program = |name: &str, guard: &str| {
        let text = format!(
            "#!/bin/sh\nfor script; do :; done\nlast=$(sed -n 's/^#SBATCH --array=0-//p' \"$script\")\n\
             list=$(dirname \"$script\")/batch.txt\n[ -e {first} ] || head -n 1 \"$list\" > {first}\n\
             for i in $(seq 0 \"$last\"); do\n{guard}\n\
             SLURM_ARRAY_TASK_ID=$i sh \"$script\" >/dev/null 2>&1\ndone\necho 1\nexit 1\n",
            first = folder.path().join("first").display()
        );
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("writes");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("sets");
        path.to_str().expect("text").to_owned()
    };
    let first = folder.path().join("first").display().to_string();
    let bad = program(
        "bad",
        &format!("[ \"$(sed -n \"$((i + 1))p\" \"$list\")\" = \"$(cat {first})\" ] && continue"),
    );
    let out = folder.path().join("out");
    let report = json(&search(&paths, &out, "slurm", &[("OFFSHOOT_SBATCH", &bad)]));
    assert_eq!(
        (&report["failed"], &report["evaluations"]),
        (&Value::from(1), &Value::from(COUNT)),
        "{report}"
    );
    assert!(report["failures"].to_string().contains("lost"), "{}", report["failures"]);
    let good = program("good", "");
    let again = json(&search(&paths, &out, "slurm", &[("OFFSHOOT_SBATCH", &good)]));
    assert_eq!((&again["failed"], &again["evaluated"]), (&Value::from(0), &Value::from(1)), "{again}");
    // If nothing comes back, the batch system is at fault.
    let none = search(&paths, &folder.path().join("none"), "slurm", &[("OFFSHOOT_SBATCH", "false")]);
    let error = json(&none)["error"]["message"].to_string();
    assert!(!none.status.success() && error.contains("none of 8 jobs"), "{error}");
}
