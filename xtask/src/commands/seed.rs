//! `cargo shop seed`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use xtask::shop::{self, Service};

use super::client;
use super::running::Running;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Inventory's API, if it is not that of the shop that runs here.
    #[arg(long, env = "INVENTORY_URL")]
    inventory_url: Option<String>,
}

/// Waits for inventory, and fills its catalogue unless something is listed.
pub(super) async fn run(options: Options) -> Result<ExitCode> {
    let url = match options.inventory_url {
        Some(url) => url,
        None => Running::find()?.service(Service::Inventory)?.url.clone(),
    };
    match shop::seed(&client()?, &url).await? {
        0 => println!("Something is listed already; the catalogue stays as it is."),
        listed => println!("{listed} products are on the shelves."),
    }
    Ok(ExitCode::SUCCESS)
}
