//! `cargo shop rebuild-payments`.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use xtask::audit::{Discrepancy, rebuild_payments};
use xtask::shop::Service;

use super::ink::{Ink, say};
use super::running::Running;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Payment's database of a shop that does not run here.
    #[arg(long, env = "PAYMENT_AUDIT_URL", hide_env_values = true)]
    database_url: Option<String>,
}

/// Compares every payment with the fold of its facts, and fails when one says something else.
pub(super) async fn run(options: Options) -> Result<ExitCode> {
    let ink = Ink::of_stdout();
    let database = payment_database(options.database_url)?;
    let started = Instant::now();
    let rebuilt = rebuild_payments(&database, |done| {
        if done % 10_000 == 0 {
            say(&ink.dim(&format!("{done} payments rebuilt")));
        }
    });
    let rebuilt = rebuilt.await?;
    for Discrepancy {
        order_id,
        what,
        stored,
        rebuilt,
    } in &rebuilt.discrepancies
    {
        say(&format!("{order_id}  {what}: stored {stored}, by its facts {rebuilt}"));
    }
    let took = started.elapsed().as_secs_f64();
    let read = format!(
        "{} payments rebuilt from {} facts in {took:.1} s",
        rebuilt.payments, rebuilt.facts
    );
    Ok(match rebuilt.discrepancies.len() {
        0 => {
            say(&ink.good(&format!("{read}: rows and ledger say the same.")));
            ExitCode::SUCCESS
        }
        many => {
            say(&ink.bad(&format!("{read}: {many} differences.")));
            ExitCode::FAILURE
        }
    })
}

/// Of the shop that runs here, unless another one's was said.
pub(super) fn payment_database(said: Option<String>) -> Result<String> {
    match said {
        Some(url) => Ok(url),
        None => Ok(Running::find()?.service(Service::Payment)?.database_url.clone()),
    }
}
