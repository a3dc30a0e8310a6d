//! The relay: publishes what the outbox holds, then forgets it.
//!
//! It lives in the service's own process and is woken in memory after each commit; a slow poll is
//! the net. Any number of replicas run it, each for the lanes that it owns, so the events of one
//! subject are published in the order of their commits. Whatever was published but not yet
//! forgotten when the process died is published again under the same id, and deduplicated by the
//! broker or, later, by the consumers' inboxes.

use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::jetstream;
use events::Owner;
use opentelemetry::KeyValue;
use sqlx::postgres::PgListener;
use telemetry::{Kind, Span, TraceContext, semconv};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fault_points::reach;
use crate::lanes::Lanes;
use crate::pace::Pace;
use crate::publish::{LARGEST_BATCH, Outgoing, publish};
use crate::{Db, Envelope, amnesia, metrics};

/// How often the outbox is looked at although nobody called.
const IDLE: Duration = Duration::from_millis(500);
/// How often the lanes are shared out anew.
const BALANCE: Duration = Duration::from_secs(1);
/// How long one round may take; a link that has died without a word does not stop the relay for longer.
const ROUND: Duration = Duration::from_secs(15);
/// How long an orderly end of the session may take; the server ends it by itself if need be.
const GOODBYE: Duration = Duration::from_secs(1);
/// How often the archive is compared with the stream although no connection was lost.
const RECALL: Duration = Duration::from_secs(30);
/// The channel on which replicas wake each other, between transactions, never inside one.
const CHANNEL: &str = "outbox";

/// Publishes the outbox of one service.
pub struct Relay {
    db: Db,
    jetstream: jetstream::Context,
    owner: Owner,
}

impl Relay {
    /// A relay for the service that owns the stream.
    pub fn new(db: Db, jetstream: jetstream::Context, owner: Owner) -> Self {
        Self { db, jetstream, owner }
    }

    /// Publishes until shutdown; after a failure it starts over with a new session.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut failures = 0;
        while !shutdown.is_cancelled() {
            let Err(error) = self.serve(&shutdown, &mut failures).await else {
                continue;
            };
            metrics::messaging().relay_failures.add(1, &[]);
            tracing::warn!(error = format!("{error:#}"), "cannot publish, will try again");
            let pause = Duration::from_millis(fastrand::u64(20..=(100 << failures.min(5))));
            failures += 1;
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One session: owns lanes, and forwards batch after batch while everything goes well.
    async fn serve(&self, shutdown: &CancellationToken, failures: &mut u32) -> anyhow::Result<()> {
        self.wait_for_broker(shutdown).await;
        let mut connection = self.connection();
        let mut recalled = Instant::now();
        self.recall().await?;
        let mut commits = self.db.commits();
        let (mut lanes, mut calls) = timeout(ROUND, self.open()).await??;
        let (mut balanced, mut highest, mut pace) = (None, 0, Pace::default());
        while !shutdown.is_cancelled() {
            pace.wait().await;
            if balanced.is_none_or(|at: Instant| at.elapsed() > BALANCE) {
                timeout(ROUND, lanes.balance()).await??;
                balanced = Some(Instant::now());
                if self.connection() != connection || recalled.elapsed() > RECALL {
                    (connection, recalled) = (self.connection(), Instant::now());
                    self.recall().await?;
                }
            }
            if commits.has_changed()? {
                commits.mark_unchanged();
                timeout(ROUND, self.call_others(&mut lanes)).await??;
            }
            // What was too much for one round is tried in smaller pieces.
            let limit = LARGEST_BATCH >> (*failures).min(6);
            if let Some(sequence) = timeout(ROUND, self.forward(&mut lanes, limit)).await?? {
                if sequence < highest {
                    // The stream counts anew.
                    self.recall().await?;
                }
                (highest, *failures) = (sequence, 0);
                continue;
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = commits.changed() => commits.mark_changed(),
                call = calls.recv() => { call?; }
                () = tokio::time::sleep(IDLE) => {}
            }
        }
        let _ = timeout(GOODBYE, lanes.close()).await;
        Ok(())
    }

    async fn open(&self) -> sqlx::Result<(Lanes, PgListener)> {
        let lanes = Lanes::open(self.db.pool()).await?;
        let mut calls = PgListener::connect_with(self.db.pool()).await?;
        calls.listen(CHANNEL).await?;
        Ok((lanes, calls))
    }

    /// One batch: read, publish, forget. Returns its place in the stream, or none if there was nothing to publish.
    ///
    /// No transaction is open while the broker works.
    async fn forward(&self, lanes: &mut Lanes, limit: i64) -> anyhow::Result<Option<u64>> {
        let rows = read(lanes, limit).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        reach("relay.read").await?;
        let started = Instant::now();
        let span = publish_span(self.owner, &rows);
        let messages: Vec<Outgoing> = rows.iter().map(Row::outgoing).collect();
        let outcome = publish(&self.jetstream, &messages).await;
        if outcome.is_err() {
            span.fail("publish_failed");
        }
        let sequence = outcome?;
        drop(span);
        reach("relay.published").await?;
        forget(lanes, self.owner, &rows, sequence).await?;
        reach("relay.forgotten").await?;
        metrics::messaging().published(self.owner, rows.len(), started.elapsed());
        Ok(Some(sequence))
    }

    /// Puts back what the broker has forgotten, before anything new is published.
    async fn recall(&self) -> anyhow::Result<()> {
        let republished = amnesia::recall(&self.db, &self.jetstream, self.owner).await?;
        metrics::messaging().republished.add(republished, &[]);
        Ok(())
    }

    /// Which connection to which server; another one may know less.
    fn connection(&self) -> (String, u64) {
        let server = self.jetstream.client().server_info();
        (server.server_id, server.client_id)
    }

    /// Tells the other replicas, if there are any, of commits in lanes that they own.
    async fn call_others(&self, lanes: &mut Lanes) -> sqlx::Result<()> {
        if !lanes.shared() {
            return Ok(());
        }
        sqlx::query!("select pg_notify($1, '')", CHANNEL)
            .execute(lanes.session())
            .await?;
        Ok(())
    }

    /// Reading a batch is pointless while it cannot be published.
    async fn wait_for_broker(&self, shutdown: &CancellationToken) {
        let client = self.jetstream.client();
        while client.connection_state() != State::Connected && !shutdown.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

struct Row {
    id: i64,
    nats_subject: String,
    envelope: Envelope,
    payload: String,
}

impl Row {
    fn outgoing(&self) -> Outgoing {
        Outgoing {
            subject: self.nats_subject.clone(),
            headers: self.envelope.headers(),
            payload: self.payload.clone().into(),
        }
    }
}

/// The oldest rows of our lanes. Rows that commit later with smaller ids are simply found next time.
async fn read(lanes: &mut Lanes, limit: i64) -> sqlx::Result<Vec<Row>> {
    let held = lanes.held();
    let rows = sqlx::query!(
        r#"
        select id, nats_subject, event_id, event_type, subject, sequence, correlation_id, causation_id, occurred_at,
               traceparent, tracestate, payload
        from outbox where lane = any($1) order by id limit $2
        "#,
        &held,
        limit,
    )
    .fetch_all(lanes.session())
    .await?;
    let row = rows.into_iter().map(|row| Row {
        id: row.id,
        nats_subject: row.nats_subject,
        envelope: Envelope {
            event_id: row.event_id,
            event_type: row.event_type,
            subject: row.subject,
            sequence: row.sequence,
            correlation_id: row.correlation_id,
            causation_id: row.causation_id,
            occurred_at: row.occurred_at,
            trace: TraceContext::restore(row.traceparent.as_deref(), row.tracestate.as_deref()),
        },
        payload: row.payload,
    });
    Ok(row.collect())
}

/// Moves the batch from the hot table to the archive.
async fn forget(lanes: &mut Lanes, owner: Owner, rows: &[Row], sequence: u64) -> sqlx::Result<()> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    sqlx::query!(
        r#"
        with gone as (delete from outbox where id = any($1) returning outbox)
        insert into outbox_archive (stream, stream_sequence, events)
        select $2, $3, array_agg(gone.outbox order by (gone.outbox).id) from gone having count(*) > 0
        "#,
        &ids,
        owner.stream(),
        sequence as i64,
    )
    .execute(lanes.session())
    .await?;
    Ok(())
}

/// A root of its own with a link to each producing span: it serves many traces and belongs to none.
fn publish_span(owner: Owner, rows: &[Row]) -> Span {
    let links: Vec<&TraceContext> = rows.iter().map(|row| &row.envelope.trace).collect();
    Span::start_linked(
        Kind::Client,
        format!("publish {}", owner.stream()),
        &TraceContext::NONE,
        &links,
        || {
            vec![
                KeyValue::new(semconv::MESSAGING_SYSTEM, "nats"),
                KeyValue::new(semconv::MESSAGING_OPERATION_NAME, "publish"),
                KeyValue::new(semconv::MESSAGING_OPERATION_TYPE, "send"),
                KeyValue::new(semconv::MESSAGING_DESTINATION_NAME, owner.stream()),
                KeyValue::new(semconv::MESSAGING_BATCH_COUNT, rows.len() as i64),
            ]
        },
    )
}
