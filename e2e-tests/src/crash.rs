//! Deaths at a named place: a service is made to die there, and is started again.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::{Consumer, FromConsumer, pull};
use async_nats::jetstream::message::StreamMessage;
use uuid::Uuid;

use crate::{Service, World};

/// What is wrong when a point is not reached.
const NOT_REACHED: &str = "either nothing led there, or the binaries were built without fault points; \
    `cargo build --workspace --bins` builds them in, but building or testing one package alone leaves them out again";

impl World {
    /// Waits until what was armed has happened.
    pub async fn happened(&self, service: Service, point: &str) -> anyhow::Result<()> {
        let what = format!("{service} reaches {point}");
        self.until(&what, || async {
            Ok((!self.shop.is_armed(service, point)).then_some(()))
        })
        .await
        .context(NOT_REACHED)
    }

    /// Waits until the service has died where it was told to.
    pub async fn died(&self, service: Service, point: &str) -> anyhow::Result<()> {
        self.happened(service, point).await?;
        self.until(&format!("{service} is dead"), || async {
            Ok(self.shop.pid(service).is_none().then_some(()))
        })
        .await
    }

    /// Makes the broker deliver again so soon what a dead process has not acknowledged.
    pub async fn redeliver_after(&self, ack_wait: Duration) -> anyhow::Result<()> {
        for service in Service::ALL {
            for stream in service.hears().subjects.keys() {
                self.redeliver_to(service, stream, ack_wait).await?;
            }
        }
        Ok(())
    }

    /// The same for what one service hears of one stream.
    pub async fn redeliver_to(&self, service: Service, stream: &str, ack_wait: Duration) -> anyhow::Result<()> {
        let jetstream = self.jetstream().await?;
        let durable: Consumer<pull::Config> = jetstream.get_consumer_from_stream(service.name(), stream).await?;
        let mut config = pull::Config::try_from_consumer_config(durable.cached_info().config.clone())
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        config.ack_wait = ack_wait;
        jetstream.create_consumer_on_stream(config, stream).await?;
        Ok(())
    }

    /// How often a stream holds the event.
    pub async fn times_in_stream(&self, stream: &str, event_id: Uuid) -> anyhow::Result<usize> {
        let mut stream = self.jetstream().await?.get_stream(stream).await?;
        let last = stream.info().await?.state.last_sequence;
        let mut times = 0;
        for sequence in 1..=last {
            let message = stream.get_raw_message(sequence).await?;
            times += usize::from(is_called(&message, event_id));
        }
        Ok(times)
    }
}

fn is_called(message: &StreamMessage, event_id: Uuid) -> bool {
    let id = message.headers.get("ce-id").map(ToString::to_string);
    id == Some(event_id.to_string())
}
