//! `cargo shop down`.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::running::{Claim, data};

const STOPS_WITHIN: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(50);

/// Asks the process of `up` to end, and returns once nothing of it is left.
pub(super) async fn run() -> Result<ExitCode> {
    let data = data()?;
    let Some(pid) = Claim::holder(&data)? else {
        println!("No shop runs here.");
        return Ok(ExitCode::SUCCESS);
    };
    println!("Stopping the shop (process {pid}).");
    let asked = Command::new("kill").args(["-s", "TERM", &pid.to_string()]).status();
    ensure!(
        asked.context("cannot run kill")?.success(),
        "process {pid} cannot be stopped"
    );
    let deadline = Instant::now() + STOPS_WITHIN;
    while Claim::holder(&data)?.is_some() {
        ensure!(
            Instant::now() < deadline,
            "the shop does not stop within {STOPS_WITHIN:?}"
        );
        tokio::time::sleep(GLANCE).await;
    }
    println!("Stopped. The data is kept in .shop.");
    Ok(ExitCode::SUCCESS)
}
