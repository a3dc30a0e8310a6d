//! The rows of the outbox, and what a relay does with them under the locks of its lanes.

use std::time::Duration;

use events::Owner;
use telemetry::TraceContext;

use crate::Envelope;
use crate::lanes::Lanes;
use crate::publish::Outgoing;

/// Between two looks for rows that are committed and not yet visible.
const INVISIBLE: Duration = Duration::from_millis(2);

/// An event that waits to be published.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) lane: i16,
    pub(crate) nats_subject: String,
    pub(crate) envelope: Envelope,
    pub(crate) payload: String,
}

impl Row {
    pub(crate) fn outgoing(&self) -> Outgoing {
        Outgoing {
            subject: self.nats_subject.clone(),
            headers: self.envelope.headers(),
            payload: self.payload.clone().into(),
        }
    }
}

/// The oldest rows of our lanes. Rows that commit later with smaller ids are simply found next time.
pub(crate) async fn read(lanes: &mut Lanes, limit: i64) -> sqlx::Result<Vec<Row>> {
    let held = lanes.held();
    let rows = sqlx::query!(
        r#"
        select id, lane, nats_subject, event_id, event_type, subject, sequence, correlation_id, causation_id,
               occurred_at, traceparent, tracestate, payload
        from outbox where lane = any($1) order by id limit $2
        "#,
        &held,
        limit,
    )
    .fetch_all(lanes.session())
    .await?;
    let row = rows.into_iter().map(|row| Row {
        id: row.id,
        lane: row.lane,
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

/// Moves the batch from the hot table to the archive, whole or not at all: its last event is the one at the sequence.
///
/// A row that came from the log may have been committed so recently that no query sees it yet; it is waited for.
pub(crate) async fn forget(lanes: &mut Lanes, owner: Owner, rows: &[Row], sequence: u64) -> sqlx::Result<()> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    loop {
        let archived = sqlx::query!(
            r#"
            with gone as (
                delete from outbox where id = any($1)
                   and (select count(*) from outbox where id = any($1)) = cardinality($1)
                returning outbox
            )
            insert into outbox_archive (stream, stream_sequence, events)
            select $2, $3, array_agg(gone.outbox order by (gone.outbox).id) from gone having count(*) > 0
            "#,
            &ids,
            owner.stream(),
            sequence as i64,
        )
        .execute(lanes.session())
        .await?;
        if archived.rows_affected() > 0 {
            return Ok(());
        }
        tokio::time::sleep(INVISIBLE).await;
    }
}

/// Which of these rows still wait, once the transactions that wrote them are visible to everybody.
pub(crate) async fn waiting(lanes: &mut Lanes, ids: &[i64], writers: &[String]) -> sqlx::Result<Vec<i64>> {
    // A transaction is in the log before it is visible, and holds the lock on its own id until it is.
    while sqlx::query_scalar!(
        r#"
        select exists (select from pg_locks where locktype = 'transactionid' and mode = 'ExclusiveLock'
                                              and transactionid::text = any($1)) as "committing!"
        "#,
        writers,
    )
    .fetch_one(lanes.session())
    .await?
    {
        tokio::time::sleep(INVISIBLE).await;
    }
    sqlx::query_scalar!("select id from outbox where id = any($1)", ids)
        .fetch_all(lanes.session())
        .await
}

/// Where the log ends. Whatever a query has seen before is in the log before it.
pub(crate) async fn end_of_log(lanes: &mut Lanes) -> sqlx::Result<u64> {
    let end = sqlx::query_scalar!(r#"select (pg_current_wal_insert_lsn() - '0/0')::bigint as "end!""#);
    Ok(end.fetch_one(lanes.session()).await?.unsigned_abs())
}
