//! The commands that need the services.

mod api_test;
mod audit;
mod chaos;
mod dead_letters;
mod docs;
mod down;
mod forward;
mod ink;
mod load;
mod log;
mod logs;
mod migrate;
mod order;
mod ports;
mod rebuild_payments;
mod reconcile;
mod replay;
mod running;
mod schemas;
mod seed;
mod status;
mod up;
mod usage;
mod welcome;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use messaging::provision::Settings;
use reqwest::Client;
use running::Running;
use xtask::shop::{self, Service};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Starts the whole shop, shows its logs, and stops it on Ctrl-C. Data is kept in .shop.
    Up(up::Options),
    /// Stops the shop that runs.
    Down,
    /// Shows how every service of the shop is.
    Status,
    /// Shows what the services print, also after they have ended.
    Logs(logs::Options),
    /// Places an order and follows it to its end.
    Order(order::Options),
    /// Places many orders, waits until all are through, and tells what that took.
    Load(load::Options),
    /// Checks what must be true across all services, one line each; exits with 1 on any breach.
    Audit(audit::Options),
    /// Asks a shop of its own everything that its OpenAPI documents allow and forbid (needs Python and PyPI).
    ApiTest(api_test::Options),
    /// Breaks a shop of its own in every way there is, under load, and tells whether it stayed sound.
    Chaos(chaos::Options),
    /// Shows what could not be handled, and has it tried again or discarded.
    DeadLetters(dead_letters::Options),
    /// Shows and renews the schemas of events, and who uses them.
    Schemas(schemas::Options),
    /// Writes the pages that are generated from the code.
    Docs,
    /// Builds what a service has projected once more from the streams, compares, and puts it in place without downtime.
    Replay(replay::Options),
    /// Folds every payment from its facts and compares it with its row and the ledger; exits with 1 on any difference.
    RebuildPayments(rebuild_payments::Options),
    /// Compares payments and ledger with the gateway's book; exits with 1 on any difference.
    Reconcile(reconcile::Options),
    /// Forwards connections to a service by name, its replicas in turn; for containers.
    Forward(forward::Options),
    /// Creates the streams and durables in a broker, or brings them up to date.
    Provision(Provision),
    /// Brings the tables of services up to date as their owner, and grants what their applications need.
    Migrate(migrate::Options),
    /// Lists the first products in an empty catalogue and puts them on the shelves.
    Seed(seed::Options),
}

impl Command {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Up(options) => up::run(options).await,
            Self::Down => down::run().await,
            Self::Status => status::run().await,
            Self::Logs(options) => logs::run(options).await,
            Self::Order(options) => order::run(options).await,
            Self::Load(options) => load::run(options).await,
            Self::ApiTest(options) => api_test::run(options).await,
            Self::Audit(options) => audit::run(options).await,
            Self::Chaos(options) => chaos::run(options).await,
            Self::DeadLetters(options) => dead_letters::run(options).await,
            Self::Schemas(options) => schemas::run(options).await,
            Self::Docs => docs::run(),
            Self::Replay(options) => replay::run(options).await,
            Self::RebuildPayments(options) => rebuild_payments::run(options).await,
            Self::Reconcile(options) => reconcile::run(options).await,
            Self::Forward(options) => forward::run(options).await,
            Self::Provision(options) => options.run().await,
            Self::Migrate(options) => migrate::run(options).await,
            Self::Seed(options) => seed::run(options).await,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Provision {
    /// The broker, `nats://provisioner:password@host`, if it is not that of the shop that runs here.
    #[arg(long, env = "NATS_URL", hide_env_values = true)]
    nats_url: Option<String>,
    /// How many servers of a cluster keep each stream.
    #[arg(long, env = "NATS_REPLICAS", default_value_t = 1)]
    replicas: usize,
    /// How many bytes each stream holds at most: seven days of events, docs/scaling.md says how many that are.
    #[arg(long, env = "NATS_STREAM_BYTES", default_value_t = Settings::default().stream_bytes)]
    stream_bytes: i64,
    /// A service that is to hear everything once more that the streams hold.
    #[arg(long, value_name = "SERVICE")]
    from_start: Option<Service>,
}

impl Provision {
    async fn run(self) -> Result<ExitCode> {
        let settings = Settings {
            replicas: self.replicas,
            stream_bytes: self.stream_bytes,
            ..Settings::default()
        };
        let nats_url = match (self.nats_url, Running::look()) {
            (Some(url), _) => url,
            (None, Ok(Some(running))) => running.provisioner_url,
            (None, _) => "nats://127.0.0.1:4222".to_owned(),
        };
        if let Some(service) = self.from_start {
            shop::hear_again(&nats_url, service).await?;
            println!("{service} hears everything once more; what is in its inbox has no effect again.");
        }
        shop::provision(&nats_url, &settings).await?;
        println!("Streams and durables are as they should be.");
        Ok(ExitCode::SUCCESS)
    }
}

/// Straight to 127.0.0.1, whatever proxy the machine has.
fn client() -> Result<Client> {
    Ok(Client::builder().no_proxy().timeout(Duration::from_secs(15)).build()?)
}
