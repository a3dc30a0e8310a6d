//! `cargo shop docs`: every page that is generated from the code, written by the test that compares it.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::workspace::{cargo, root};

/// Test targets of `e2e-tests` that write what they compare when `UPDATE_DOCS=1`; those that exist are run.
const GENERATORS: [&str; 2] = ["contract", "openapi"];

pub(super) fn run() -> Result<ExitCode> {
    let tests = root()?.join("e2e-tests/tests");
    let there = GENERATORS
        .iter()
        .filter(|target| tests.join(target).join("main.rs").exists());
    let targets: Vec<&str> = there.flat_map(|target| ["--test", target]).collect();
    if targets.is_empty() {
        bail!("there is nothing to generate");
    }
    let mut cargo = cargo()?;
    cargo.args(["test", "--package", "e2e-tests"]).args(targets);
    let status = cargo.env("UPDATE_DOCS", "1").status().context("cannot run cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
