//! A program of ours: its signals, its log, its environment.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use testbed::{Process, Scratch};

/// Counts up in its log until SIGTERM, which it answers with a word.
const COUNTER: &str = r#"trap 'echo "$LAST_WORD"; exit' TERM
n=0; while :; do n=$((n + 1)); echo "$n"; sleep 0.01; done"#;

async fn counter(scratch: &Scratch) -> Process {
    let mut command = Command::new("sh");
    command.args(["-c", COUNTER]).env("LAST_WORD", "bye");
    let started = Process::start("counter", &command, &scratch.path().join("counter"), &log(scratch)).await;
    let counter = started.unwrap();
    until(|| printed(scratch).contains("3\n")).await;
    counter
}

fn log(scratch: &Scratch) -> std::path::PathBuf {
    scratch.path().join("counter.log")
}

fn printed(scratch: &Scratch) -> String {
    fs::read_to_string(log(scratch)).unwrap_or_default()
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn ends_in_its_own_way_when_it_is_stopped_and_goes_on_with_its_log_when_started_again() {
    let scratch = Scratch::new("process").await.unwrap();
    let counter = counter(&scratch).await;
    let before = counter.pid();

    counter.stop().await.unwrap();
    assert!(printed(&scratch).ends_with("bye\n"));
    assert_eq!(counter.pid(), None);

    counter.restart().await.unwrap();
    assert_ne!(counter.pid(), before);
    until(|| printed(&scratch).contains("bye\n1\n")).await;
}

#[tokio::test]
async fn has_no_last_word_when_it_is_killed() {
    let scratch = Scratch::new("process").await.unwrap();
    let counter = counter(&scratch).await;
    counter.kill().await.unwrap();
    assert_eq!(counter.pid(), None);
    assert!(!printed(&scratch).contains("bye"));
}

#[tokio::test]
async fn stands_still_while_it_is_paused_and_can_be_stopped_all_the_same() {
    let scratch = Scratch::new("process").await.unwrap();
    let counter = counter(&scratch).await;

    counter.pause().await.unwrap();
    let frozen = printed(&scratch);
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(printed(&scratch), frozen);
    }
    counter.resume().await.unwrap();
    until(|| printed(&scratch) != frozen).await;

    counter.pause().await.unwrap();
    counter.stop().await.unwrap();
    assert!(printed(&scratch).ends_with("bye\n"));
}
