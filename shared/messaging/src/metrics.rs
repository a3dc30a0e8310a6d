//! What the messaging core counts as it happens.

use std::sync::OnceLock;
use std::time::Duration;

use events::Owner;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram};
use telemetry::semconv;

use crate::dead_letters::Letter;
use crate::unit::Verdict;

pub(crate) struct Messaging {
    sent: Counter<u64>,
    publish_seconds: Histogram<f64>,
    consumed: Counter<u64>,
    redelivered: Counter<u64>,
    duplicates: Counter<u64>,
    dead_letters: Counter<u64>,
    process_seconds: Histogram<f64>,
    pub(crate) relay_failures: Counter<u64>,
    pub(crate) republished: Counter<u64>,
    /// How often the log could be read, from the start or again.
    pub(crate) relay_streams: Counter<u64>,
    /// How often it could not, so that the outbox was polled.
    pub(crate) relay_fallbacks: Counter<u64>,
}

const SECONDS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The instruments, made on first use.
pub(crate) fn messaging() -> &'static Messaging {
    static INSTRUMENTS: OnceLock<Messaging> = OnceLock::new();
    INSTRUMENTS.get_or_init(|| {
        let meter = telemetry::metrics::meter();
        let counter = |name, description| meter.u64_counter(name).with_description(description).build();
        Messaging {
            sent: counter("messaging.client.sent.messages", "Events the broker has taken"),
            publish_seconds: telemetry::metrics::seconds(
                "messaging.client.operation.duration",
                "How long a batch of the relay took, from reading to forgetting it",
                &SECONDS,
            ),
            consumed: counter("messaging.client.consumed.messages", "Deliveries that were committed"),
            redelivered: counter(
                "shop.messages.redelivered",
                "Deliveries that were not the first of their event",
            ),
            duplicates: counter(
                "shop.messages.duplicates",
                "Deliveries of events that the inbox knew already",
            ),
            dead_letters: counter("shop.dead_letters", "Events that became dead letters"),
            process_seconds: telemetry::metrics::seconds(
                "messaging.process.duration",
                "How long an event took from the start of its batch to the commit",
                &SECONDS,
            ),
            relay_failures: counter("shop.relay.failures", "Sessions of the relay that ended with a failure"),
            republished: counter(
                "shop.relay.republished",
                "Events the broker had forgotten, told once more",
            ),
            relay_streams: counter("shop.relay.streams", "How often reading the log began"),
            relay_fallbacks: counter(
                "shop.relay.fallbacks",
                "How often the log could not be read, so that the outbox is polled",
            ),
        }
    })
}

impl Messaging {
    /// From here on they are 0 and not absent, so that the first failure is an increase.
    pub(crate) fn expect_relay(&self) {
        let counters = [
            &self.relay_failures,
            &self.republished,
            &self.relay_streams,
            &self.relay_fallbacks,
        ];
        counters.iter().for_each(|counter| counter.add(0, &[]));
    }

    pub(crate) fn published(&self, owner: Owner, events: usize, took: Duration) {
        let labels = [
            KeyValue::new(semconv::MESSAGING_SYSTEM, "nats"),
            KeyValue::new(semconv::MESSAGING_OPERATION_NAME, "publish"),
            KeyValue::new(semconv::MESSAGING_DESTINATION_NAME, owner.stream()),
        ];
        self.sent.add(events as u64, &labels);
        self.publish_seconds.record(took.as_secs_f64(), &labels);
    }

    pub(crate) fn processed(&self, consumer: &'static str, letter: &Letter, verdict: &Verdict, took: Duration) {
        let labels = [
            KeyValue::new(semconv::MESSAGING_SYSTEM, "nats"),
            KeyValue::new(semconv::MESSAGING_OPERATION_NAME, "process"),
            KeyValue::new(semconv::MESSAGING_CONSUMER_GROUP_NAME, consumer),
            KeyValue::new(semconv::MESSAGING_DESTINATION_NAME, letter.place.nats_subject.clone()),
        ];
        self.consumed.add(1, &labels);
        self.process_seconds.record(took.as_secs_f64(), &labels);
        if letter.attempts > 1 {
            self.redelivered.add(1, &labels);
        }
        if *verdict == Verdict::AlreadyDone {
            self.duplicates.add(1, &labels);
        }
        if matches!(verdict, Verdict::Buried(_)) {
            self.dead_letters.add(1, &labels);
        }
    }
}
