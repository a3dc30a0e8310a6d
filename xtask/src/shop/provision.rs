//! What must exist in the broker before a service starts.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_nats::jetstream;
use messaging::provision;

use super::{LOOK, Service};

/// How long the broker may take to appear, for a container that starts beside it, and a cluster to be complete.
const APPEARS_WITHIN: Duration = Duration::from_secs(60);
/// nats-server's codes for a cluster that has no leader yet, or not all of its servers.
const INCOMPLETE: [&str; 3] = ["error code 10005", "error code 10008", "error code 10023"];

/// Creates every stream and every durable, or brings them up to date.
pub async fn provision(nats_url: &str, settings: &provision::Settings) -> Result<()> {
    let jetstream = jetstream(nats_url).await?;
    let deadline = Instant::now() + APPEARS_WITHIN;
    loop {
        match create(&jetstream, settings).await {
            Err(error) if is_incomplete(&error) && Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            provisioned => return provisioned,
        }
    }
}

async fn create(jetstream: &jetstream::Context, settings: &provision::Settings) -> Result<()> {
    provision::streams(jetstream, settings).await?;
    for service in Service::ALL {
        provision::durables(jetstream, &service.hears(), settings).await?;
    }
    Ok(())
}

fn is_incomplete(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    INCOMPLETE.iter().any(|code| text.contains(code)) || text.contains("timed out")
}

/// Lets a service hear once more whatever the streams hold, from the beginning; its inbox recognises what it has handled.
///
/// It loses its durables, which the next [`provision()`] makes anew; the word of events that were given up is not told again.
pub async fn hear_again(nats_url: &str, service: Service) -> Result<()> {
    let jetstream = jetstream(nats_url).await?;
    for stream in service.hears().subjects.into_keys() {
        let deleted = jetstream.delete_consumer_from_stream(service.name(), stream).await;
        deleted.with_context(|| format!("{service} has no durable on {stream}"))?;
    }
    Ok(())
}

/// A connection to the broker that waits for it to appear.
pub(super) async fn jetstream(nats_url: &str) -> Result<jetstream::Context> {
    let (options, servers) = messaging::broker::options(nats_url)?;
    let client = options
        .name("cargo shop")
        .retry_on_initial_connect()
        .connect(servers)
        .await
        .with_context(|| format!("{nats_url} is no address of a broker"))?;
    // The first answer shows that the connection was made.
    tokio::time::timeout(APPEARS_WITHIN, client.flush())
        .await
        .with_context(|| format!("no broker answers at {nats_url}"))??;
    Ok(jetstream::new(client))
}
