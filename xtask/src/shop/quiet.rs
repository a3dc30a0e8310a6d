//! Telling that nothing is on its way any more.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use async_nats::jetstream;
use events::Owner;
use serde_json::Value;

use super::{LOOK, Service, Shop, provision};

impl Shop {
    /// Waits until no event waits in an outbox or a stream, and none came meanwhile.
    ///
    /// What a service will do later of its own accord (a delivery, a deadline) does not count.
    pub async fn drained(&self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        let jetstream = provision::jetstream(&self.nats_url()).await?;
        let mut before = None;
        loop {
            // An event that moved while it was looked for has made a stream longer.
            let (told, waiting) = (self.told(&jetstream).await, self.waiting().await);
            let quiet_at = match (&told, &waiting) {
                (Ok(told), Ok(None)) => Some(*told),
                _ => None,
            };
            if quiet_at.is_some() && quiet_at == before {
                return Ok(());
            }
            before = quiet_at;
            if Instant::now() > deadline {
                told?;
                let place = waiting?.unwrap_or_else(|| "the streams still grow".to_owned());
                bail!("events are still on their way after {within:?}: {place}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How many events were ever published.
    async fn told(&self, jetstream: &jetstream::Context) -> Result<u64> {
        let mut told = 0;
        for owner in Owner::ALL {
            told += jetstream
                .get_stream(owner.stream())
                .await?
                .cached_info()
                .state
                .last_sequence;
        }
        Ok(told)
    }

    /// Where an event waits, if anywhere.
    async fn waiting(&self) -> Result<Option<String>> {
        for service in Service::ALL {
            let consumers = self.admin(service, "consumers").await?;
            let busy = |lag: &&Value| lag["pending"] != 0 || lag["unacknowledged"] != 0;
            if let Some(lag) = consumers.as_array().into_iter().flatten().find(busy) {
                return Ok(Some(format!("{service} has not handled {lag}")));
            }
            // Only now: what was handled meanwhile has left its answer here before it was acknowledged.
            let outbox = self.admin(service, "outbox").await?;
            if outbox["depth"] != 0 {
                return Ok(Some(format!("the outbox of {service} holds {outbox}")));
            }
        }
        Ok(None)
    }

    async fn admin(&self, service: Service, of: &str) -> Result<Value> {
        let url = format!("{}/admin/{of}", self.admin_url(service));
        Ok(self.client.get(url).send().await?.error_for_status()?.json().await?)
    }
}
