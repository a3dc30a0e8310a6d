//! `cargo shop docs`: every page that is generated from the code, written by the test that compares it.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::workspace::{self, root};

/// Test targets of `e2e-tests` that write what they compare when `UPDATE_DOCS=1`; those that exist are run.
const GENERATORS: [&str; 2] = ["contract", "openapi"];
/// Tests of the target `main` that do so with what they see of a shop that runs.
const OBSERVERS: [&str; 2] = ["metrics::", "traces::golden::"];

pub(super) fn run() -> Result<ExitCode> {
    let tests = root()?.join("e2e-tests/tests");
    let there = GENERATORS
        .iter()
        .filter(|target| tests.join(target).join("main.rs").exists());
    let targets: Vec<&str> = there.flat_map(|target| ["--test", target]).collect();
    if targets.is_empty() {
        bail!("there is nothing to generate");
    }
    let mut cargo = workspace::cargo()?;
    cargo.args(["test", "--package", "e2e-tests"]).args(targets);
    let mut binaries = workspace::cargo()?;
    binaries.args(["build", "--workspace", "--bins"]);
    let mut observers = workspace::cargo()?;
    observers
        .args(["test", "--package", "e2e-tests", "--test", "main", "--"])
        .args(OBSERVERS);
    for mut step in [cargo, binaries, observers] {
        let status = step.env("UPDATE_DOCS", "1").status().context("cannot run cargo")?;
        if !status.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
