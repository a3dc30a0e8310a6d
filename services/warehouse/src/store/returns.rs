//! Returns in the database: those that a batch touches, those that an errand takes, and one for the API.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use events::{Line, ReturnedLine};
use messaging::{Touched, Tx, all_saved};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use telemetry::TraceContext;
use uuid::Uuid;

use super::LEASE;
use crate::domain::{Return, ReturnState};

struct ReturnRow {
    return_id: Uuid,
    order_id: Uuid,
    state: String,
    lines: Json<Vec<Line>>,
    reason: String,
    found: Option<Json<Vec<ReturnedLine>>>,
    refundable: i64,
    caused_by: Option<Uuid>,
    traceparent: Option<String>,
    tracestate: Option<String>,
    version: i64,
    state_since: DateTime<Utc>,
}

impl ReturnRow {
    fn into_return(self) -> Return {
        Return {
            order_id: self.order_id,
            state: ReturnState::from_sql(&self.state),
            lines: self.lines.0,
            reason: self.reason,
            found: self.found.map(|found| found.0).unwrap_or_default(),
            refundable: self.refundable,
            cause: self.caused_by,
            trace: TraceContext::restore(self.traceparent.as_deref(), self.tracestate.as_deref()),
            version: self.version,
            changed: false,
        }
    }
}

impl ReturnState {
    /// The column is checked, so every word is one of ours.
    fn from_sql(word: &str) -> Self {
        match word {
            "RECEIVED" => Self::Received,
            "REJECTED" => Self::Rejected,
            _ => Self::Awaited,
        }
    }
}

/// Locks every return of these orders, in order of their ids.
pub(super) async fn load(tx: &mut Tx, touched: &Touched) -> sqlx::Result<BTreeMap<Uuid, Return>> {
    let rows = sqlx::query_as!(
        ReturnRow,
        r#"
        select return_id, order_id, state, lines as "lines: Json<Vec<Line>>", reason,
               found as "found: Json<Vec<ReturnedLine>>", refundable, caused_by, traceparent, tracestate,
               version, state_since
        from returns where order_id = any($1) order by return_id for update
        "#,
        &touched.order_ids(),
    );
    let rows = rows.fetch_all(&mut **tx).await?.into_iter();
    Ok(rows.map(|row| (row.return_id, row.into_return())).collect())
}

/// A return keeps the event that announced it and its trace; it is due until somebody has looked at it.
pub(super) async fn save(tx: &mut Tx, returns: &BTreeMap<Uuid, Return>) -> sqlx::Result<()> {
    let changed: Vec<(&Uuid, &Return)> = returns.iter().filter(|(_, one)| one.changed).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let lines: Vec<Json<&[Line]>> = changed.iter().map(|(_, one)| Json(one.lines.as_slice())).collect();
    let found = changed.iter().map(|(_, one)| {
        let looked_at = one.state != ReturnState::Awaited;
        looked_at.then_some(Json(one.found.as_slice()))
    });
    let saved = sqlx::query!(
        r#"
        insert into returns as known (return_id, order_id, state, lines, reason, found, refundable, version,
                                      caused_by, traceparent, tracestate, due_at)
        select return_id, order_id, state, lines, reason, found, refundable, version + 1,
               caused_by, traceparent, tracestate, case when state = 'AWAITED' then now() end
        from unnest($1::uuid[], $2::uuid[], $3::text[], $4::jsonb[], $5::text[], $6::jsonb[], $7::bigint[],
                    $8::bigint[], $9::uuid[], $10::text[], $11::text[])
            as t (return_id, order_id, state, lines, reason, found, refundable, version, caused_by, traceparent,
                  tracestate)
        on conflict (return_id) do update
        set state = excluded.state, found = excluded.found, refundable = excluded.refundable,
            version = excluded.version, state_since = now(), due_at = excluded.due_at
        where known.version = excluded.version - 1
        "#,
        &changed.iter().map(|(return_id, _)| **return_id).collect::<Vec<_>>(),
        &changed.iter().map(|(_, one)| one.order_id).collect::<Vec<_>>(),
        &changed
            .iter()
            .map(|(_, one)| one.state.as_str().to_owned())
            .collect::<Vec<_>>(),
        &lines as &[Json<&[Line]>],
        &changed.iter().map(|(_, one)| one.reason.clone()).collect::<Vec<_>>(),
        &found.collect::<Vec<_>>() as &[Option<Json<&[ReturnedLine]>>],
        &changed.iter().map(|(_, one)| one.refundable).collect::<Vec<_>>(),
        &changed.iter().map(|(_, one)| one.version).collect::<Vec<_>>(),
        &changed.iter().map(|(_, one)| one.cause).collect::<Vec<_>>() as &[Option<Uuid>],
        &changed
            .iter()
            .map(|(_, one)| one.trace.traceparent())
            .collect::<Vec<_>>() as &[Option<String>],
        &changed
            .iter()
            .map(|(_, one)| one.trace.tracestate().map(str::to_owned))
            .collect::<Vec<_>>() as &[Option<String>],
    )
    .execute(&mut **tx)
    .await?;
    all_saved(saved.rows_affected(), changed.len())
}

/// A return that an errand took.
#[derive(Debug)]
pub struct DueReturn {
    /// The return.
    pub return_id: Uuid,
    /// The order that it is a part of.
    pub order_id: Uuid,
    /// The event that announced it.
    pub cause: Option<Uuid>,
    /// Its span.
    pub trace: TraceContext,
}

/// Leases returns that have been awaited for the delay, the longest waiting first.
pub async fn take_due_returns(session: &mut PgConnection, delay: Duration, limit: i64) -> sqlx::Result<Vec<DueReturn>> {
    let rows = sqlx::query!(
        r#"
        update returns
        set attempts = attempts + 1, due_at = now() + make_interval(secs => $2 * 2 ^ least(attempts, 6) - $1)
        where return_id = any (array(
            select return_id from returns where due_at <= now() - make_interval(secs => $1)
            order by due_at for update skip locked limit $3
        ))
        returning return_id, order_id, caused_by, traceparent, tracestate
        "#,
        delay.as_secs_f64(),
        LEASE.as_secs_f64(),
        limit,
    )
    .fetch_all(session)
    .await?;
    let taken = rows.into_iter().map(|row| DueReturn {
        return_id: row.return_id,
        order_id: row.order_id,
        cause: row.caused_by,
        trace: TraceContext::restore(row.traceparent.as_deref(), row.tracestate.as_deref()),
    });
    Ok(taken.collect())
}

/// How long until the next return will have been awaited for the delay, or its lease ends.
pub async fn next_due_return(session: &mut PgConnection, delay: Duration) -> sqlx::Result<Option<Duration>> {
    let left = sqlx::query_scalar!(
        r#"
        select extract(epoch from min(due_at) + make_interval(secs => $1) - now())::float8
        from returns where due_at is not null
        "#,
        delay.as_secs_f64(),
    )
    .fetch_one(session)
    .await?;
    Ok(left.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}

/// One return, since when it has been in its state, and the event that announced it.
pub async fn one_return(pool: &PgPool, return_id: Uuid) -> sqlx::Result<Option<(Return, DateTime<Utc>)>> {
    let row = sqlx::query_as!(
        ReturnRow,
        r#"
        select return_id, order_id, state, lines as "lines: Json<Vec<Line>>", reason,
               found as "found: Json<Vec<ReturnedLine>>", refundable, caused_by, traceparent, tracestate,
               version, state_since
        from returns where return_id = $1
        "#,
        return_id,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| {
        let since = row.state_since;
        (row.into_return(), since)
    }))
}
