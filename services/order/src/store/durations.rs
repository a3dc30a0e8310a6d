//! How long sagas took, measured when the transaction that ends them is committed.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use chrono::{DateTime, Utc};
use messaging::Tx;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;
use uuid::Uuid;

use super::save::reason_word;
use crate::domain::{Order, State};

/// From a twentieth of a second to a week, because parcels take days.
const SECONDS: [f64; 16] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 43_200.0, 172_800.0, 604_800.0,
];

fn durations() -> &'static Histogram<f64> {
    static INSTRUMENT: OnceLock<Histogram<f64>> = OnceLock::new();
    INSTRUMENT.get_or_init(|| {
        telemetry::metrics::seconds(
            "shop.saga.duration",
            "How long orders took from being placed to being completed or cancelled",
            &SECONDS,
        )
    })
}

/// Measures the orders that come to their end in this transaction. A return afterwards is another saga.
pub(super) fn measure_ends(tx: &mut Tx, orders: &BTreeMap<Uuid, Order>, now: DateTime<Utc>) {
    for order in orders.values() {
        let mut changes = order.history.changes.iter();
        let end = changes.find(|change| match change.state {
            State::Completed => order.returns.is_empty(),
            state => state == State::Cancelled,
        });
        let Some(end) = end else { continue };
        let mut labels = vec![KeyValue::new("state", end.state.as_str())];
        labels.extend(end.reason.map(|reason| KeyValue::new("reason", reason_word(reason))));
        let took = (now - order.created_at).as_seconds_f64().max(0.0);
        tx.once_committed(move || durations().record(took, &labels));
    }
}
