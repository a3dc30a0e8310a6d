//! What remains when the owner of a cluster and a broker is gone: nothing.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn owner() -> (Child, Vec<PathBuf>) {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_hold"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let folders = lines.find_map(|line| Some(line.strip_prefix("folders: ")?.split(' ').map(PathBuf::from).collect()));
    (owner, folders.unwrap())
}

/// Processes whose command line or current folder names this one.
fn processes_in(folder: &PathBuf) -> usize {
    let name = folder.to_string_lossy().into_owned();
    let all = Command::new("ps").args(["-A", "-o", "args="]).output();
    let listed = all
        .map(|ps| String::from_utf8_lossy(&ps.stdout).into_owned())
        .unwrap_or_default();
    let by_command = listed.lines().filter(|line| line.contains(&name)).count();
    let by_folder = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|process| std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder)));
    by_command + by_folder.count()
}

fn await_nothing_left(folders: &[PathBuf]) {
    let deadline = Instant::now() + Duration::from_secs(60);
    for folder in folders {
        while folder.exists() || processes_in(folder) > 0 {
            assert!(Instant::now() < deadline, "{} is still in use", folder.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn an_owner_killed_with_kill_9_leaves_no_process_and_no_folder() {
    let (mut owner, folders) = owner();
    for folder in &folders {
        assert!(folder.exists() && processes_in(folder) > 0);
    }
    owner.kill().unwrap();
    owner.wait().unwrap();
    await_nothing_left(&folders);
}

#[test]
fn an_owner_that_ends_in_good_order_has_cleaned_up_before() {
    let (mut owner, folders) = owner();
    drop(owner.stdin.take());
    assert!(owner.wait().unwrap().success());
    assert!(folders.iter().all(|folder| !folder.exists()));
}
