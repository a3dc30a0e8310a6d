//! `cargo shop logs`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::ink::Ink;
use super::log::{Logs, show};

/// How many lines of the past are shown.
const PAST: usize = 200;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A service, or `sandbox-gateway`, `postgres`, `nats`; all services and the gateway when absent.
    service: Option<String>,
    /// Goes on until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
}

pub(super) async fn run(options: Options) -> Result<ExitCode> {
    let ink = Ink::of_stdout();
    let mut logs = match &options.service {
        Some(program) => Logs::of(program)?,
        None => Logs::of_services()?,
    };
    let past = logs.news();
    let shown = show(&past[past.len().saturating_sub(PAST)..], ink);
    if options.follow && shown.is_ok() {
        logs.follow(ink).await;
    }
    Ok(ExitCode::SUCCESS)
}
