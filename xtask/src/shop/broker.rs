//! The broker, as whoever an address names.

use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::jetstream;

/// How long the broker may take to appear, for a container that starts beside it.
const APPEARS_WITHIN: Duration = Duration::from_secs(60);

/// A connection to the broker that waits for it to appear.
pub async fn jetstream(nats_url: &str) -> Result<jetstream::Context> {
    let (options, servers) = messaging::broker::options(nats_url)?;
    let client = options
        .name("cargo shop")
        .retry_on_initial_connect()
        .connect(servers)
        .await
        .context("this is no address of a broker")?;
    // The first answer shows that the connection was made.
    tokio::time::timeout(APPEARS_WITHIN, client.flush())
        .await
        .context("no broker answers, or it does not let us in")??;
    Ok(jetstream::new(client))
}
