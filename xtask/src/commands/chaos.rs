//! `cargo shop chaos`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use testbed::Durability;
use xtask::chaos;

use super::ink::{Ink, say};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long things go wrong.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// What goes wrong and what is ordered: the same seed does the same things. Any when absent.
    #[arg(long)]
    seed: Option<u64>,
    /// How many orders are placed each second.
    #[arg(long, default_value_t = 20.0)]
    orders_per_second: f64,
    /// The folder of the services' binaries; the one of this program when absent.
    #[arg(long)]
    binaries: Option<PathBuf>,
}

pub(super) async fn run(options: Options) -> Result<ExitCode> {
    let seconds = options.minutes * 60.0;
    ensure!(
        (1.0..=7.0 * 86_400.0).contains(&seconds),
        "--minutes: between a second and a week"
    );
    ensure!(
        (0.1..=1_000.0).contains(&options.orders_per_second),
        "--orders-per-second: between 0.1 and 1000"
    );
    let binaries = options
        .binaries
        .as_ref()
        .map(|folder| folder.canonicalize().with_context(|| folder.display().to_string()));
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    let home = std::env::temp_dir().join(format!("tidings-chaos-{seed}-{}", std::process::id()));
    say(&format!(
        "Seed {seed}. The shop lives in {} until it has proved sound.",
        home.display()
    ));
    let (ink, started) = (Ink::of_stdout(), Instant::now());
    let outcome = chaos::run(&chaos::Options {
        seed,
        length: Duration::from_secs_f64(seconds),
        orders_per_second: options.orders_per_second,
        home: home.clone(),
        binaries: binaries.transpose()?,
        durability: Durability::Real,
        progress: say,
    })
    .await
    .with_context(|| format!("the logs are in {}", home.join("logs").display()))?;
    say(&format!("\n{}", outcome.text()));
    say(&ink.dim(&format!("seed {seed}, {:.0} s", started.elapsed().as_secs_f64())));
    if outcome.is_sound() {
        std::fs::remove_dir_all(&home)?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&ink.bad(&format!(
        "Everything is kept in {}, the logs in its folder logs.",
        home.display()
    )));
    Ok(ExitCode::FAILURE)
}
