//! What an operator asks a service about its messages.

use async_nats::jetstream::{self, consumer::pull};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use crate::provision::Hears;

/// How far one durable is behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// The stream it hears.
    pub stream: &'static str,
    /// Its name.
    pub durable: &'static str,
    /// Deliveries so far, redeliveries included.
    pub delivered: u64,
    /// Events that were not delivered yet.
    pub pending: u64,
    /// Events that were delivered and not acknowledged yet.
    pub unacknowledged: usize,
    /// Of those, events that were delivered more than once.
    pub redelivered: usize,
}

/// Asks the broker about every durable of a service.
pub async fn lags(jetstream: &jetstream::Context, hears: &Hears) -> anyhow::Result<Vec<Lag>> {
    let mut lags = Vec::new();
    for stream in hears.subjects.keys() {
        let consumer: jetstream::consumer::Consumer<pull::Config> =
            jetstream.get_consumer_from_stream(hears.service, *stream).await?;
        // To be found it had to be asked already.
        let info = consumer.cached_info();
        lags.push(Lag {
            stream,
            durable: hears.service,
            pending: info.num_pending,
            delivered: info.delivered.consumer_sequence,
            unacknowledged: info.num_ack_pending,
            redelivered: info.num_redelivered,
        });
    }
    Ok(lags)
}

/// How many events have been handled, and when the last one was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InboxStatus {
    /// Id of the newest event that was handled.
    pub last_event_id: Option<Uuid>,
    /// When its effect was committed.
    pub last_handled_at: Option<DateTime<Utc>>,
}

/// Reads the newest row of the inbox.
pub async fn inbox(pool: &PgPool) -> sqlx::Result<InboxStatus> {
    let row = sqlx::query!("select event_id, handled_at from inbox order by event_id desc limit 1")
        .fetch_optional(pool)
        .await?;
    Ok(InboxStatus {
        last_event_id: row.as_ref().map(|row| row.event_id),
        last_handled_at: row.map(|row| row.handled_at),
    })
}
