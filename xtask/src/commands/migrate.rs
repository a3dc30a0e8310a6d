//! `cargo shop migrate`.

use std::env;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use xtask::shop::{self, Service};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The services; all of which an address is given, if none is named.
    services: Vec<Service>,
}

/// Migrates each database whose owner's address is in the environment, `ORDER_OWNER_DATABASE_URL` for instance.
pub(super) async fn run(options: Options) -> Result<ExitCode> {
    let mut done = 0;
    for service in Service::ALL {
        let variable = format!("{}_OWNER_DATABASE_URL", service.name().to_uppercase());
        let wanted = options.services.contains(&service);
        match env::var(&variable) {
            Ok(url) if wanted || options.services.is_empty() => {
                shop::migrate(service, &url).await?;
                println!("The tables of {service} are as they should be.");
                done += 1;
            }
            Err(_) if wanted => bail!("{variable} is not set: it names the database of {service} and its owner"),
            _ => {}
        }
    }
    if done == 0 {
        bail!("no database was named: ORDER_OWNER_DATABASE_URL, for instance, names that of order and its owner");
    }
    Ok(ExitCode::SUCCESS)
}
