//! What must exist in the broker before a service starts: streams, durable consumers, and the registry of contracts.
//!
//! Services create nothing; this module is called by `shop provision` alone, so in production only
//! the provisioner needs the right to.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{self, stream};
use events::Owner;

use crate::{Reactions, WorkingSet, registry};

/// How long the streams keep an event.
pub const STREAMS_KEEP: Duration = Duration::from_secs(7 * 24 * 3600);
/// The stream that keeps what the broker says of events that it has given up.
pub const ADVISORIES: &str = "ADVISORIES";
/// Followed by stream and durable; such advisories are told once, whether somebody listens or not.
const GIVEN_UP: &str = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES";

/// What may differ from one broker to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How many servers of a cluster keep each stream.
    pub replicas: usize,
    /// How many bytes a stream holds at most; what is more waits in the outboxes.
    pub stream_bytes: i64,
    /// How long an event may be in somebody's hands before it is delivered again.
    pub ack_wait: Duration,
    /// How often an event is delivered before the broker gives it up.
    pub max_deliver: i64,
}

impl Default for Settings {
    /// One server, two gigabytes, half a minute, and twenty deliveries.
    ///
    /// A failing event has an outcome after five; handing back at shutdown and lost acknowledgements cost one each, and
    /// a database or broker that is away costs none. What stands beside an event that kills its process needs a dozen
    /// to get past it, of which each costs `ack_wait`: twenty leave room, and end the dying after ten minutes.
    fn default() -> Self {
        Self {
            replicas: 1,
            stream_bytes: 2 << 30,
            ack_wait: Duration::from_secs(30),
            max_deliver: 20,
        }
    }
}

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

/// Creates every stream and the registry of contracts, or brings an existing one up to date.
pub async fn streams(jetstream: &jetstream::Context, settings: &Settings) -> anyhow::Result<()> {
    let events = Owner::ALL.map(|owner| stream_config(owner, settings));
    let others = [advisories(settings.replicas), registry::bucket(settings.replicas)];
    for config in events.into_iter().chain(others) {
        let name = config.name.clone();
        let provisioned = jetstream.create_or_update_stream(config).await;
        provisioned.with_context(|| format!("cannot provision the stream {name}"))?;
    }
    Ok(())
}

/// Kept as long as the events that it is about.
fn advisories(replicas: usize) -> stream::Config {
    stream::Config {
        name: ADVISORIES.to_owned(),
        description: Some("events that the broker has given up".to_owned()),
        subjects: vec![format!("{GIVEN_UP}.>")],
        retention: stream::RetentionPolicy::Limits,
        storage: stream::StorageType::File,
        discard: stream::DiscardPolicy::Old,
        max_bytes: 64 << 20,
        max_age: STREAMS_KEEP,
        deny_delete: true,
        deny_purge: true,
        num_replicas: replicas,
        ..stream::Config::default()
    }
}

/// Limits retention: consumers come and go, and a deduplicated id stays known across restarts.
fn stream_config(owner: Owner, settings: &Settings) -> stream::Config {
    stream::Config {
        name: owner.stream().to_owned(),
        description: Some(format!("what the {} service tells", owner.name())),
        subjects: vec![format!("shop.{}.>", owner.name())],
        retention: stream::RetentionPolicy::Limits,
        storage: stream::StorageType::File,
        discard: stream::DiscardPolicy::New,
        max_bytes: settings.stream_bytes,
        max_age: STREAMS_KEEP,
        max_message_size: 256 << 10,
        duplicate_window: Duration::from_secs(120),
        deny_delete: true,
        deny_purge: true,
        allow_atomic_publish: true,
        num_replicas: settings.replicas,
        ..stream::Config::default()
    }
}

/// Creates the durables of one service, or brings existing ones up to date.
pub async fn durables(jetstream: &jetstream::Context, hears: &Hears, settings: &Settings) -> anyhow::Result<()> {
    let base = pull::Config {
        durable_name: Some(hears.service.to_owned()),
        // Whoever comes late hears the past as well, as far back as the streams keep it.
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: settings.ack_wait,
        max_deliver: settings.max_deliver,
        max_ack_pending: 4_096,
        ..pull::Config::default()
    };
    let events = hears.subjects.iter().map(|(stream, subjects)| {
        let config = pull::Config {
            filter_subjects: subjects.clone(),
            ..base.clone()
        };
        (*stream, config)
    });
    // Of its own durables only; and an advisory is never given up.
    let given_up = pull::Config {
        filter_subject: format!("{GIVEN_UP}.*.{}", hears.service),
        max_deliver: -1,
        ..base.clone()
    };
    for (stream, config) in events.chain([(ADVISORIES, given_up)]) {
        let provisioned = jetstream.create_consumer_on_stream(config, stream).await;
        provisioned.with_context(|| format!("cannot provision the durable {} on {stream}", hears.service))?;
    }
    Ok(())
}
