//! What must exist in the broker before a service starts.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_nats::jetstream;
use messaging::provision;

use super::broker;
use super::{LOOK, Service};

/// How long a cluster may take to be complete.
const COMPLETE_WITHIN: Duration = Duration::from_secs(60);
/// nats-server's codes for a cluster that has no leader yet, or not all of its servers.
const INCOMPLETE: [&str; 3] = ["error code 10005", "error code 10008", "error code 10023"];

/// Creates every stream and every durable, or brings them up to date.
pub async fn provision(nats_url: &str, settings: &provision::Settings) -> Result<()> {
    let jetstream = broker::jetstream(nats_url).await?;
    let deadline = Instant::now() + COMPLETE_WITHIN;
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
    let jetstream = broker::jetstream(nats_url).await?;
    for stream in service.hears().subjects.into_keys() {
        let deleted = jetstream.delete_consumer_from_stream(service.name(), stream).await;
        deleted.with_context(|| format!("{service} has no durable on {stream}"))?;
    }
    Ok(())
}
