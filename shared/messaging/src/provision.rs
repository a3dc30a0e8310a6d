//! What must exist in the broker before a service starts: streams and durable consumers.
//!
//! Services create nothing; this module is called by `shop provision` alone, so in production only
//! the provisioner needs the right to.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{self, stream};
use events::Owner;

use crate::{Reactions, WorkingSet};

/// How long the streams keep an event.
pub const STREAMS_KEEP: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a service wants to hear: subjects by stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hears {
    /// The service, and the name of its durables.
    pub service: &'static str,
    /// Stream to NATS subjects.
    pub subjects: BTreeMap<&'static str, Vec<String>>,
}

impl Hears {
    /// Reads it off the wiring table.
    pub fn of<W: WorkingSet>(reactions: &Reactions<W>) -> Self {
        let mut subjects: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for (event, _) in reactions.wiring() {
            let of_stream = subjects.entry(event.owner.stream()).or_default();
            if !of_stream.contains(&event.subject()) {
                of_stream.push(event.subject());
            }
        }
        Self {
            service: reactions.service(),
            subjects,
        }
    }
}

pub(crate) fn streams_heard<W: WorkingSet>(reactions: &Reactions<W>) -> Vec<&'static str> {
    Hears::of(reactions).subjects.into_keys().collect()
}

/// Creates every stream, or brings an existing one up to date.
pub async fn streams(jetstream: &jetstream::Context, replicas: usize) -> anyhow::Result<()> {
    for owner in Owner::ALL {
        jetstream
            .create_or_update_stream(stream_config(owner, replicas))
            .await
            .with_context(|| format!("cannot provision the stream {}", owner.stream()))?;
    }
    Ok(())
}

/// Limits retention: consumers come and go, and a deduplicated id stays known across restarts.
fn stream_config(owner: Owner, replicas: usize) -> stream::Config {
    stream::Config {
        name: owner.stream().to_owned(),
        description: Some(format!("what the {} service tells", owner.name())),
        subjects: vec![format!("shop.{}.>", owner.name())],
        retention: stream::RetentionPolicy::Limits,
        storage: stream::StorageType::File,
        discard: stream::DiscardPolicy::New,
        max_bytes: 2 << 30,
        max_age: STREAMS_KEEP,
        max_message_size: 256 << 10,
        duplicate_window: Duration::from_secs(120),
        deny_delete: true,
        deny_purge: true,
        allow_atomic_publish: true,
        num_replicas: replicas,
        ..stream::Config::default()
    }
}

/// Creates the durables of one service, or brings existing ones up to date.
pub async fn durables(jetstream: &jetstream::Context, hears: &Hears) -> anyhow::Result<()> {
    for (stream, subjects) in &hears.subjects {
        let config = pull::Config {
            durable_name: Some(hears.service.to_owned()),
            filter_subjects: subjects.clone(),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: Duration::from_secs(30),
            // Attempts are counted by the consumer, which knows whose fault a failure is.
            max_deliver: -1,
            max_ack_pending: 4_096,
            ..pull::Config::default()
        };
        jetstream
            .create_consumer_on_stream(config, *stream)
            .await
            .with_context(|| format!("cannot provision the durable {} on {stream}", hears.service))?;
    }
    Ok(())
}
