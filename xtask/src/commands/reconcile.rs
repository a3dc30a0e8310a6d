//! `cargo shop reconcile`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use xtask::audit::reconcile::{Mismatch, reconcile};

use super::ink::{Ink, say};
use super::rebuild_payments::payment_database;
use super::running::Running;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many seconds the books may differ about a payment that has just changed.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    grace: u64,
    /// Payment's database of a shop that does not run here.
    #[arg(long, env = "PAYMENT_AUDIT_URL", hide_env_values = true, requires = "gateway_url")]
    database_url: Option<String>,
    /// The gateway of that shop.
    #[arg(long, env = "GATEWAY_URL")]
    gateway_url: Option<String>,
}

/// Compares our books with the gateway's, and fails when they do not match.
pub(super) async fn run(options: Options) -> Result<ExitCode> {
    let ink = Ink::of_stdout();
    let gateway = match options.gateway_url {
        Some(url) => url,
        None => Running::find()?.gateway_url,
    };
    let database = payment_database(options.database_url)?;
    let found = reconcile(&database, &gateway, Duration::from_secs(options.grace)).await?;
    for Mismatch { kind, order, says } in &found.mismatches {
        say(&format!(
            "{}  order {order}: {says}",
            ink.bad(&format!("{:<24}", kind.name()))
        ));
    }
    for Mismatch { kind, order, says } in &found.under_way {
        say(&format!(
            "{}  order {order}: {says}",
            ink.warning(&format!("{:<24}", format!("{kind}, yet")))
        ));
    }
    let compared = format!(
        "{} payments and {} charges compared, {}.{:02} net",
        found.payments,
        found.charges,
        found.net / 100,
        found.net % 100
    );
    let waiting = match found.under_way.len() {
        0 => String::new(),
        some => format!(" {some} may still be under way."),
    };
    Ok(match found.mismatches.len() {
        0 => {
            say(&ink.good(&format!("{compared}: the books match.{waiting}")));
            ExitCode::SUCCESS
        }
        many => {
            say(&ink.bad(&format!("{compared}: {many} differences.{waiting}")));
            ExitCode::FAILURE
        }
    })
}
