//! Refunds of returns in the database: those that a batch touches, and those that the errand takes.

use std::time::Duration;

use chrono::{DateTime, Utc};
use messaging::Tx;
use sqlx::{PgConnection, PgPool};
use telemetry::TraceContext;
use uuid::Uuid;

use super::errands::from_seconds;
use crate::domain::{Asked, Due, Payments, RefundProgress, RefundState, ReturnRefund};

impl RefundState {
    /// The word for it in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Due => "DUE",
            Self::Done => "DONE",
            Self::Refused => "REFUSED",
        }
    }

    /// The column is checked, so every word is one of ours.
    pub(super) fn from_sql(word: &str) -> Self {
        match word {
            "DONE" => Self::Done,
            "REFUSED" => Self::Refused,
            _ => Self::Due,
        }
    }
}

/// Adds the refunds of their returns to the payments, whose rows are locked already.
pub(super) async fn load(tx: &mut Tx, orders: &[Uuid], payments: &mut Payments) -> sqlx::Result<()> {
    let rows = sqlx::query!(
        r#"
        select return_id, refund_id, order_id, amount, state, retries, attempts, trouble, caused_by, traceparent,
               tracestate
        from return_refunds where order_id = any($1) order by return_id for update
        "#,
        orders,
    );
    for row in rows.fetch_all(&mut **tx).await? {
        let asked = Asked {
            event_id: row.caused_by,
            trace: TraceContext::restore(row.traceparent.as_deref(), row.tracestate.as_deref()),
        };
        let refund = ReturnRefund {
            refund_id: row.refund_id,
            amount: row.amount,
            state: RefundState::from_sql(&row.state),
            retries: row.retries,
            progress: RefundProgress {
                attempts: row.attempts,
                trouble: row.trouble,
                due: Due::AsItWas,
                asked,
                saved: true,
                changed: false,
            },
        };
        if let Some(payment) = payments.payments.get_mut(&row.order_id) {
            payment.refunds.insert(row.return_id, refund);
        }
    }
    Ok(())
}

/// One statement for all; the payments' versions guard against a concurrent writer.
pub(super) async fn save(tx: &mut Tx, known: &Payments) -> sqlx::Result<()> {
    let all = known.payments.values().flat_map(|payment| {
        payment
            .refunds
            .iter()
            .map(|(id, refund)| (payment.order_id, *id, refund))
    });
    let changed: Vec<(Uuid, Uuid, &ReturnRefund)> = all.filter(|(.., refund)| refund.progress.changed).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let asked = |of: fn(&TraceContext) -> Option<String>| {
        let traces = changed.iter().map(|(.., refund)| &refund.progress.asked.trace);
        traces.map(of).collect::<Vec<_>>()
    };
    let waits = changed.iter().map(|(.., refund)| match refund.progress.due {
        Due::In(wait) => Some(wait.as_secs_f64()),
        Due::Never | Due::AsItWas => None,
    });
    sqlx::query!(
        r#"
        insert into return_refunds as known (return_id, refund_id, order_id, amount, state, due_at, trouble, caused_by,
                                             traceparent, tracestate, retries)
        select return_id, refund_id, order_id, amount, state, now() + make_interval(secs => wait), trouble, caused_by,
               traceparent, tracestate, retries
        from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::float8[], $7::text[], $8::uuid[],
                    $9::text[], $10::text[], $11::integer[])
            as t (return_id, refund_id, order_id, amount, state, wait, trouble, caused_by, traceparent, tracestate,
                  retries)
        on conflict (return_id) do update
        set state = excluded.state, due_at = excluded.due_at, trouble = excluded.trouble, retries = excluded.retries,
            state_since = case when known.state = excluded.state then known.state_since else now() end
        "#,
        &changed.iter().map(|(_, return_id, _)| *return_id).collect::<Vec<_>>(),
        &changed.iter().map(|(.., refund)| refund.refund_id).collect::<Vec<_>>(),
        &changed.iter().map(|(order_id, ..)| *order_id).collect::<Vec<_>>(),
        &changed.iter().map(|(.., refund)| refund.amount).collect::<Vec<_>>(),
        &changed
            .iter()
            .map(|(.., refund)| refund.state.as_str().to_owned())
            .collect::<Vec<_>>(),
        &waits.collect::<Vec<_>>() as &[Option<f64>],
        &changed
            .iter()
            .map(|(.., refund)| refund.progress.trouble.clone())
            .collect::<Vec<_>>() as &[Option<String>],
        &changed
            .iter()
            .map(|(.., refund)| refund.progress.asked.event_id)
            .collect::<Vec<_>>() as &[Option<Uuid>],
        &asked(TraceContext::traceparent) as &[Option<String>],
        &asked(|trace| trace.tracestate().map(str::to_owned)) as &[Option<String>],
        &changed.iter().map(|(.., refund)| refund.retries).collect::<Vec<_>>(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The refund of a return that an errand took.
#[derive(Debug)]
pub struct DueReturnRefund {
    /// The order.
    pub order_id: Uuid,
    /// The return.
    pub return_id: Uuid,
    /// What goes back, in minor units.
    pub amount: i64,
    /// What the gateway calls the charge.
    pub gateway_ref: String,
    /// Counts the attempts, this one included.
    pub attempt: i32,
    /// How often an operator had it tried again.
    pub retries: i32,
    /// The event that asked for it.
    pub cause: Option<Uuid>,
    /// Its span.
    pub trace: TraceContext,
}

/// Counts the attempt before any call is made, and leases the refund.
pub async fn take_return_refunds(
    session: &mut PgConnection,
    limit: i64,
    lease: Duration,
) -> sqlx::Result<Vec<DueReturnRefund>> {
    let rows = sqlx::query!(
        r#"
        with due as (
            select return_id from return_refunds where due_at <= now() and state = 'DUE'
            order by due_at for update skip locked limit $1
        )
        update return_refunds as taken
        set attempts = taken.attempts + 1, due_at = now() + make_interval(secs => $2)
        from due, payments
        where taken.return_id = due.return_id and payments.order_id = taken.order_id
        returning taken.order_id, taken.return_id, taken.amount, gateway_ref as "gateway_ref!", taken.attempts,
                  taken.retries, taken.caused_by, taken.traceparent, taken.tracestate
        "#,
        limit,
        lease.as_secs_f64(),
    )
    .fetch_all(session)
    .await?;
    let jobs = rows.into_iter().map(|row| DueReturnRefund {
        order_id: row.order_id,
        return_id: row.return_id,
        amount: row.amount,
        gateway_ref: row.gateway_ref,
        attempt: row.attempts,
        retries: row.retries,
        cause: row.caused_by,
        trace: TraceContext::restore(row.traceparent.as_deref(), row.tracestate.as_deref()),
    });
    Ok(jobs.collect())
}

/// How long until the next refund of a return is due.
pub async fn next_return_refund(session: &mut PgConnection) -> sqlx::Result<Option<Duration>> {
    let left = sqlx::query_scalar!(
        "select extract(epoch from min(due_at) - now())::float8 from return_refunds where state = 'DUE'"
    );
    Ok(left.fetch_one(session).await?.map(from_seconds))
}

/// How many refunds of returns are due, and how many wait for an operator.
pub async fn open_return_refunds(pool: &PgPool) -> sqlx::Result<(i64, i64)> {
    let counts = sqlx::query!(
        r#"
        select (select count(*) from return_refunds where state = 'DUE') as "due!",
               (select count(*) from return_refunds where state = 'REFUSED') as "refused!"
        "#,
    );
    let counts = counts.fetch_one(pool).await?;
    Ok((counts.due, counts.refused))
}

/// The refund of a return, as it is shown.
#[derive(Debug)]
pub struct ReturnRefundRow {
    /// The return.
    pub return_id: Uuid,
    /// The refund.
    pub refund_id: Uuid,
    /// The order.
    pub order_id: Uuid,
    /// In minor units.
    pub amount: i64,
    /// Where it stands.
    pub state: String,
    /// How often the gateway was asked.
    pub attempts: i32,
    /// Why the last attempt did not settle it.
    pub trouble: Option<String>,
    /// Since when it has been in its state.
    pub state_since: DateTime<Utc>,
}

/// The refunds of an order's returns, in the order in which they were asked for.
pub async fn return_refunds(pool: &PgPool, order_id: Uuid) -> sqlx::Result<Vec<ReturnRefundRow>> {
    sqlx::query_as!(
        ReturnRefundRow,
        r#"
        select return_id, refund_id, order_id, amount, state, attempts, trouble, state_since
        from return_refunds where order_id = $1 order by requested_at, return_id
        "#,
        order_id,
    )
    .fetch_all(pool)
    .await
}

/// The operator's queue: refunds of returns in this state, by return, after the cursor.
pub async fn return_refunds_in_state(
    pool: &PgPool,
    state: &str,
    after: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<ReturnRefundRow>> {
    sqlx::query_as!(
        ReturnRefundRow,
        r#"
        select return_id, refund_id, order_id, amount, state, attempts, trouble, state_since
        from return_refunds where state = $1 and ($2::uuid is null or return_id > $2) order by return_id limit $3
        "#,
        state,
        after,
        limit,
    )
    .fetch_all(pool)
    .await
}
