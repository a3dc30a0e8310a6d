//! What the messaging core measures.

use std::sync::OnceLock;
use std::time::Duration;

use events::Owner;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram};

use crate::dead_letters::Letter;
use crate::unit::Verdict;

pub(crate) struct Messaging {
    sent: Counter<u64>,
    publish_seconds: Histogram<f64>,
    consumed: Counter<u64>,
    redelivered: Counter<u64>,
    dead_letters: Counter<u64>,
    process_seconds: Histogram<f64>,
    pub(crate) relay_failures: Counter<u64>,
    pub(crate) republished: Counter<u64>,
    /// How often the log could be read, from the start or again.
    pub(crate) relay_streams: Counter<u64>,
    /// How often it could not, so that the outbox was polled.
    pub(crate) relay_fallbacks: Counter<u64>,
    /// What of the log the slot still holds back.
    pub(crate) slot_lag: Gauge<i64>,
}

const SECONDS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The instruments, made on first use.
pub(crate) fn messaging() -> &'static Messaging {
    static INSTRUMENTS: OnceLock<Messaging> = OnceLock::new();
    INSTRUMENTS.get_or_init(|| {
        let meter = telemetry::metrics::meter();
        let seconds = |name| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_boundaries(SECONDS.to_vec())
                .build()
        };
        Messaging {
            sent: meter.u64_counter("messaging.client.sent.messages").build(),
            publish_seconds: seconds("messaging.client.operation.duration"),
            consumed: meter.u64_counter("messaging.client.consumed.messages").build(),
            redelivered: meter.u64_counter("shop.messages.redelivered").build(),
            dead_letters: meter.u64_counter("shop.dead_letters").build(),
            process_seconds: seconds("messaging.process.duration"),
            relay_failures: meter.u64_counter("shop.relay.failures").build(),
            republished: meter.u64_counter("shop.relay.republished").build(),
            relay_streams: meter.u64_counter("shop.relay.streams").build(),
            relay_fallbacks: meter.u64_counter("shop.relay.fallbacks").build(),
            slot_lag: meter.i64_gauge("shop.relay.slot.lag").with_unit("By").build(),
        }
    })
}

impl Messaging {
    pub(crate) fn published(&self, owner: Owner, events: usize, took: Duration) {
        let stream = [KeyValue::new("messaging.destination.name", owner.stream())];
        self.sent.add(events as u64, &stream);
        self.publish_seconds.record(took.as_secs_f64(), &stream);
    }

    pub(crate) fn processed(&self, consumer: &'static str, letter: &Letter, verdict: &Verdict, took: Duration) {
        let labels = [
            KeyValue::new("messaging.consumer.group.name", consumer),
            KeyValue::new("event", letter.envelope.name().to_owned()),
        ];
        self.consumed.add(1, &labels);
        self.process_seconds.record(took.as_secs_f64(), &labels);
        if *verdict == Verdict::AlreadyDone {
            self.redelivered.add(1, &labels);
        }
        if matches!(verdict, Verdict::Buried(_)) {
            self.dead_letters.add(1, &labels);
        }
    }
}
