//! `cargo shop api-test`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use tokio::process::Command;
use xtask::shop::{Service, Shop, ShopOptions};

use super::ink::say;
use crate::workspace;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// For `e2e-tests/api/run`: --max-examples, --seed, names of services.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// A shop of its own, which is put through requests made from its OpenAPI documents.
pub(super) async fn run(options: Options) -> Result<ExitCode> {
    let shop = Shop::start(ShopOptions {
        progress: say,
        ..ShopOptions::default()
    })
    .await?;
    let script = workspace::root()?.join("e2e-tests/api/run");
    let urls = Service::ALL.map(|service| (format!("{}_URL", service.name().to_uppercase()), shop.url(service)));
    let mut tests = Command::new(&script);
    let tests = tests.args(options.arguments).envs(urls);
    let status = tests.status().await.with_context(|| script.display().to_string())?;
    shop.shutdown().await?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
