//! What must exist in the broker before a service starts.

use anyhow::{Context, Result};
use messaging::provision;

use super::Service;
use super::broker::jetstream;

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
