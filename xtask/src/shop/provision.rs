//! What must exist in the broker before a service starts.

use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::jetstream;
use messaging::provision;

use super::Service;

/// How long the broker may take to appear, for a container that starts beside it.
const APPEARS_WITHIN: Duration = Duration::from_secs(60);

/// Creates every stream and every durable, or brings them up to date.
pub async fn provision(nats_url: &str, settings: &provision::Settings) -> Result<()> {
    let jetstream = jetstream(nats_url).await?;
    provision::streams(&jetstream, settings).await?;
    for service in Service::ALL {
        provision::durables(&jetstream, &service.hears(), settings).await?;
    }
    Ok(())
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
    let client = async_nats::ConnectOptions::new()
        .name("cargo shop")
        .retry_on_initial_connect()
        .connect(nats_url)
        .await
        .with_context(|| format!("{nats_url} is no address of a broker"))?;
    // The first answer shows that the connection was made.
    tokio::time::timeout(APPEARS_WITHIN, client.flush())
        .await
        .with_context(|| format!("no broker answers at {nats_url}"))??;
    Ok(jetstream::new(client))
}
