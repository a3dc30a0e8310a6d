//! What an audit has read, as far as it is joined across services.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use events::Owner;
use messaging::provision::STREAMS_KEEP;
use sqlx::FromRow;
use uuid::Uuid;

use super::{ClientLog, Source};
use crate::shop::Service;

/// Pieces by sku.
pub(super) type Units = BTreeMap<String, i64>;

/// Everything that was read.
#[derive(Debug)]
pub(super) struct Books {
    /// When reading began, by our clock.
    pub(super) now: DateTime<Utc>,
    pub(super) idle_limit: Duration,
    pub(super) client: ClientLog,
    /// What could not be read, and why.
    pub(super) unread: BTreeMap<Source, String>,

    pub(super) orders: BTreeMap<Uuid, Order>,
    pub(super) keys: Vec<(String, Uuid)>,
    pub(super) payments: BTreeMap<Uuid, Payment>,
    /// What customers have paid us, by the ledger.
    pub(super) sales_account: i64,
    pub(super) charges: Vec<Charge>,
    pub(super) reservations: BTreeMap<Uuid, Reservation>,
    /// Pieces that left the house.
    pub(super) sold: Units,
    pub(super) shipments: BTreeMap<Uuid, String>,
    /// What the warehouse, payment and inventory know of returns, by return.
    pub(super) parcels: BTreeMap<Uuid, Parcel>,
    pub(super) refunds: BTreeMap<Uuid, Refund>,
    pub(super) restocks: BTreeMap<Uuid, Restock>,
    pub(super) mails: Vec<Mail>,
    pub(super) analytics: Analytics,
    pub(super) messages: BTreeMap<Service, Messages>,
    pub(super) streams: BTreeMap<Owner, Vec<Message>>,
}

#[derive(Debug, FromRow)]
pub(super) struct OrderRow {
    pub(super) id: Uuid,
    pub(super) state: String,
    pub(super) total: i64,
    pub(super) lines: serde_json::Value,
    pub(super) returns: sqlx::types::Json<BTreeMap<Uuid, Return>>,
    pub(super) traceparent: Option<String>,
}

#[derive(Debug)]
pub(super) struct Order {
    pub(super) state: String,
    pub(super) total: i64,
    pub(super) units: Units,
    pub(super) trace: Option<String>,
    pub(super) returns: BTreeMap<Uuid, Return>,
}

/// A return as the order service knows it.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Return {
    pub(super) lines: serde_json::Value,
    pub(super) received: Option<(DateTime<Utc>, i64)>,
    pub(super) rejected: Option<DateTime<Utc>>,
    pub(super) restocked: Option<DateTime<Utc>>,
    pub(super) refunded: Option<(DateTime<Utc>, i64)>,
    pub(super) told: bool,
}

impl Return {
    /// Paid back, in minor units.
    pub(super) fn back(&self) -> i64 {
        self.refunded.map_or(0, |(_, amount)| amount)
    }
}

/// A return as the warehouse knows it.
#[derive(Debug, FromRow)]
pub(super) struct Parcel {
    pub(super) return_id: Uuid,
    pub(super) order_id: Uuid,
    pub(super) state: String,
    pub(super) lines: serde_json::Value,
    pub(super) found: Option<serde_json::Value>,
    pub(super) refundable: i64,
}

/// A return as payment knows it.
#[derive(Debug, FromRow)]
pub(super) struct Refund {
    pub(super) return_id: Uuid,
    pub(super) order_id: Uuid,
    pub(super) amount: i64,
    pub(super) state: String,
}

/// A return as inventory knows it.
#[derive(Debug)]
pub(super) struct Restock {
    pub(super) order_id: Uuid,
    pub(super) units: Units,
}

#[derive(Debug, FromRow)]
pub(super) struct Payment {
    pub(super) order_id: Uuid,
    pub(super) payment_id: Uuid,
    pub(super) captured: i64,
    pub(super) refunded: i64,
    pub(super) state: String,
    pub(super) currency: String,
    pub(super) cause: Option<String>,
}

/// A line of the gateway's own book.
#[derive(Debug, Clone, serde::Deserialize)]
pub(super) struct Charge {
    pub(super) id: String,
    pub(super) idempotency_key: Option<String>,
    pub(super) order_id: Option<String>,
    pub(super) amount: i64,
    pub(super) refunded: i64,
    pub(super) currency: String,
    /// Unix seconds.
    pub(super) created: i64,
}

#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) state: String,
    pub(super) units: Units,
}

#[derive(Debug, FromRow)]
pub(super) struct Mail {
    pub(super) order_id: Uuid,
    pub(super) template: String,
    pub(super) state: String,
}

#[derive(Debug, Default)]
pub(super) struct Analytics {
    pub(super) revenue: i64,
    /// Orders by how far they came: placed, completed, cancelled.
    pub(super) counted: BTreeMap<String, i64>,
    pub(super) units: Units,
}

/// What a service keeps for its messages.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// Told, in outbox or archive.
    pub(super) events: Vec<Event>,
    /// The last sequence given to each subject.
    pub(super) last: BTreeMap<String, i64>,
    pub(super) inbox: HashSet<Uuid>,
    pub(super) letters: Vec<Letter>,
    pub(super) sessions: Vec<Session>,
}

#[derive(Debug, Clone, FromRow)]
pub(super) struct Event {
    pub(super) event_id: Uuid,
    pub(super) event_type: String,
    pub(super) subject: String,
    pub(super) sequence: i64,
    pub(super) causation_id: Option<Uuid>,
    pub(super) traceparent: Option<String>,
    pub(super) published: bool,
}

#[derive(Debug, FromRow)]
pub(super) struct Letter {
    pub(super) event_id: Uuid,
    pub(super) state: String,
    /// Neither handled nor discarded.
    pub(super) open: bool,
    pub(super) event_type: String,
    pub(super) subject: String,
    pub(super) stream: String,
    pub(super) stream_sequence: i64,
    pub(super) reason: String,
}

/// A transaction in which nothing happens.
#[derive(Debug, FromRow)]
pub(super) struct Session {
    pub(super) pid: i32,
    pub(super) application: String,
    pub(super) seconds: f64,
}

/// A message of a stream, without its content.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) sequence: i64,
    pub(super) nats_subject: String,
    /// `ce-id`, if it can be read.
    pub(super) event_id: Option<Uuid>,
    pub(super) event_type: String,
    pub(super) subject: String,
}

impl Books {
    /// Whether events and inbox rows of that time are certainly still kept.
    pub(super) fn is_recent(&self, id: Uuid) -> bool {
        let Some(made) = id.get_timestamp() else { return true };
        let (seconds, _) = made.to_unix();
        let age = self.now.timestamp() - i64::try_from(seconds).unwrap_or(i64::MAX);
        age < STREAMS_KEEP.as_secs() as i64
    }

    /// Events of a service.
    pub(super) fn told_by(&self, service: Service) -> impl Iterator<Item = &Event> {
        self.messages.get(&service).into_iter().flat_map(|own| &own.events)
    }

    /// Events of a service about orders, by order; orders that are too old to judge are left out.
    pub(super) fn told_of_orders(&self, service: Service) -> BTreeMap<Uuid, Vec<&Event>> {
        let mut told: BTreeMap<Uuid, Vec<&Event>> = BTreeMap::new();
        for event in self.told_by(service) {
            if let Some(order) = event.order_id().filter(|order| self.is_recent(*order)) {
                told.entry(order).or_default().push(event);
            }
        }
        for events in told.values_mut() {
            events.sort_by_key(|event| event.sequence);
        }
        told
    }

    /// Orders of which every event is still kept.
    pub(super) fn recent_orders(&self) -> impl Iterator<Item = (&Uuid, &Order)> {
        self.orders.iter().filter(|(id, _)| self.is_recent(**id))
    }

    /// Templates that were sent, or given up, by order.
    pub(super) fn settled_mails(&self) -> BTreeMap<Uuid, Vec<&str>> {
        let mut settled: BTreeMap<Uuid, Vec<&str>> = BTreeMap::new();
        for mail in self
            .mails
            .iter()
            .filter(|mail| ["SENT", "FAILED"].contains(&mail.state.as_str()))
        {
            settled.entry(mail.order_id).or_default().push(&mail.template);
        }
        settled.values_mut().for_each(|templates| templates.sort_unstable());
        settled
    }

    /// Orders in one of these states.
    pub(super) fn in_state<'a>(&'a self, states: &'a [&str]) -> impl Iterator<Item = (&'a Uuid, &'a Order)> {
        let among = |order: &Order| states.contains(&order.state.as_str());
        self.orders.iter().filter(move |(_, order)| among(order))
    }

    /// Every return that an order knows, with its order.
    pub(super) fn returns(&self) -> impl Iterator<Item = (&Uuid, &Uuid, &Return)> {
        self.orders
            .iter()
            .flat_map(|(order, known)| known.returns.iter().map(move |(id, one)| (order, id, one)))
    }

    /// Every id of an event that a service has told, or still has to tell.
    pub(super) fn known_ids(&self) -> HashSet<Uuid> {
        let all = self.messages.values().flat_map(|own| &own.events);
        all.map(|event| event.event_id).collect()
    }
}

impl Messages {
    /// Letters that still wait for somebody.
    pub(super) fn open_letters(&self) -> impl Iterator<Item = &Letter> {
        self.letters.iter().filter(|letter| letter.open)
    }
}

impl Event {
    /// `OrderPlaced`.
    pub(super) fn name(&self) -> &str {
        name(&self.event_type)
    }

    pub(super) fn order_id(&self) -> Option<Uuid> {
        self.subject.parse().ok()
    }

    pub(super) fn trace(&self) -> Option<&str> {
        trace_of(self.traceparent.as_deref())
    }
}

/// The name of an event in its type: `OrderPlaced` of `shop.order.OrderPlaced.v1`.
pub(super) fn name(event_type: &str) -> &str {
    event_type.split('.').nth(2).unwrap_or(event_type)
}

/// The trace that a span belongs to.
pub(super) fn trace_of(traceparent: Option<&str>) -> Option<&str> {
    traceparent?.split('-').nth(1)
}

/// The ids that occur more than once.
pub(super) fn doubled<T: Copy + Ord>(ids: impl Iterator<Item = T>) -> BTreeSet<T> {
    let mut seen = BTreeSet::new();
    ids.filter(|id| !seen.insert(*id)).collect()
}
