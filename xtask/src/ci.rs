//! `cargo shop test`: what CI runs, in the same order.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::workspace::cargo;

struct Step {
    heading: &'static str,
    arguments: &'static str,
    environment: &'static [(&'static str, &'static str)],
}

const STEPS: [Step; 5] = [
    Step {
        heading: "Formatting",
        arguments: "fmt --all --check",
        environment: &[],
    },
    Step {
        heading: "Lints",
        arguments: "clippy --workspace --all-targets -- -D warnings",
        environment: &[],
    },
    Step {
        heading: "Documentation",
        arguments: "doc --workspace --no-deps",
        environment: &[("RUSTDOCFLAGS", "-D warnings")],
    },
    Step {
        heading: "Binaries, which the end-to-end tests start",
        arguments: "build --workspace --bins",
        environment: &[],
    },
    Step {
        heading: "Tests",
        arguments: "test --workspace --no-fail-fast",
        environment: &[],
    },
];

/// Runs every step until one fails.
pub(crate) fn run() -> Result<ExitCode> {
    let started = Instant::now();
    for (at, step) in STEPS.iter().enumerate() {
        println!("\n=== {}: cargo {}", step.heading, step.arguments);
        let begun = Instant::now();
        let status = cargo()?
            .args(step.arguments.split(' '))
            .envs(step.environment.iter().copied())
            .status()
            .context("cannot run cargo")?;
        println!("=== {} took {}", step.heading, time(begun.elapsed()));
        if !status.success() {
            let (passed, of) = (at, STEPS.len());
            println!(
                "\nFAILED: {} ({passed} of {of} steps passed, {})",
                step.heading,
                time(started.elapsed())
            );
            return Ok(ExitCode::FAILURE);
        }
    }
    println!("\nPASSED: all {} steps, {}", STEPS.len(), time(started.elapsed()));
    Ok(ExitCode::SUCCESS)
}

fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        ..60.0 => format!("{seconds:.1} s"),
        _ => format!("{} min {:.0} s", (seconds / 60.0) as u64, seconds % 60.0),
    }
}
