//! What the errands take from the table: each attempt is counted, and the payment leased, before any call is made.

use std::time::{Duration, Instant};

use sqlx::PgConnection;
use telemetry::TraceContext;
use uuid::Uuid;

use crate::clients::Charge;

/// How charges are taken.
#[derive(Debug, Clone, Copy)]
pub struct Take {
    /// How many at most.
    pub limit: i64,
    /// Nobody can be called: only those that are to be given up.
    pub shut_out: bool,
    /// For how long they are held.
    pub lease: Duration,
    /// How long after its first attempt a charge is given up.
    pub give_up_after: Duration,
}

/// A charge that an errand took.
#[derive(Debug)]
pub struct DueCharge {
    /// What is to be charged, or was.
    pub charge: Charge,
    /// Counts the attempts, this one included.
    pub attempt: i32,
    /// Whether it may still be charged; otherwise it is only found out what became of it.
    pub wanted: bool,
    /// Whether the order waits for the outcome.
    pub awaited: bool,
    /// Whether it is given up unless this attempt settles it.
    pub overdue: bool,
    /// How long until it is.
    pub give_up_in: Duration,
    /// Whether an earlier call that could charge was never answered.
    pub doubt: bool,
    /// Whether nobody can be called.
    pub shut_out: bool,
    /// When it was taken.
    pub taken: Instant,
    /// Its span.
    pub trace: TraceContext,
}

/// Counts the attempt and notes the doubt before any call is made, and leases the payment.
pub async fn take_charges(session: &mut PgConnection, take: Take) -> sqlx::Result<Vec<DueCharge>> {
    let taken = Instant::now();
    let rows = sqlx::query!(
        r#"
        with due as (
            select order_id, doubt, state = 'PENDING' as awaited,
                   state = 'PENDING' and now() >= give_up_at as overdue,
                   state = 'PENDING' and now() < give_up_at and undo = 'NONE' as wanted
            from payments
            where due_at <= now() and state <> 'REFUNDING' and (not $2 or state = 'PENDING' and now() >= give_up_at)
            order by due_at for update skip locked limit $1
        )
        update payments as taken
        set attempts = attempts + 1, doubt = taken.doubt or wanted, due_at = now() + make_interval(secs => $3),
            give_up_at = case when attempts = 0 then least(give_up_at, now() + make_interval(secs => $4))
                              else give_up_at end
        from due where taken.order_id = due.order_id
        returning taken.order_id, payment_id, amount, currency, payment_method, attempts, due.doubt as "doubt!",
                  awaited as "awaited!", overdue as "overdue!", wanted as "wanted!",
                  extract(epoch from give_up_at - now())::float8 as give_up_in, traceparent, tracestate
        "#,
        take.limit,
        take.shut_out,
        take.lease.as_secs_f64(),
        take.give_up_after.as_secs_f64(),
    )
    .fetch_all(session)
    .await?;
    let jobs = rows.into_iter().map(|row| DueCharge {
        charge: Charge {
            payment_id: row.payment_id,
            order_id: row.order_id,
            amount: row.amount,
            currency: row.currency,
            payment_method: row.payment_method,
        },
        attempt: row.attempts,
        wanted: row.wanted,
        awaited: row.awaited,
        overdue: row.overdue,
        give_up_in: row.give_up_in.map_or(Duration::ZERO, from_seconds),
        doubt: row.doubt,
        shut_out: take.shut_out,
        taken,
        trace: TraceContext::restore(row.traceparent.as_deref(), row.tracestate.as_deref()),
    });
    Ok(jobs.collect())
}

/// How long until the next charge is due.
pub async fn next_charge(session: &mut PgConnection) -> sqlx::Result<Option<Duration>> {
    let left = sqlx::query_scalar!(
        r#"
        select extract(epoch from min(due_at) - now())::float8
        from payments where due_at is not null and state <> 'REFUNDING'
        "#,
    );
    Ok(left.fetch_one(session).await?.map(from_seconds))
}

/// A refund that an errand took.
#[derive(Debug)]
pub struct DueRefund {
    /// The order.
    pub order_id: Uuid,
    /// What goes back, in minor units.
    pub amount: i64,
    /// What the gateway calls the charge.
    pub gateway_ref: String,
    /// Counts the attempts, this one included.
    pub attempt: i32,
    /// Its span.
    pub trace: TraceContext,
}

/// Counts the attempt before any call is made, and leases the payment.
pub async fn take_refunds(session: &mut PgConnection, limit: i64, lease: Duration) -> sqlx::Result<Vec<DueRefund>> {
    let rows = sqlx::query!(
        r#"
        with due as (
            select order_id from payments where due_at <= now() and state = 'REFUNDING'
            order by due_at for update skip locked limit $1
        )
        update payments as taken
        set refund_attempts = refund_attempts + 1, due_at = now() + make_interval(secs => $2)
        from due where taken.order_id = due.order_id
        returning taken.order_id, captured, gateway_ref as "gateway_ref!", refund_attempts, traceparent, tracestate
        "#,
        limit,
        lease.as_secs_f64(),
    )
    .fetch_all(session)
    .await?;
    let jobs = rows.into_iter().map(|row| DueRefund {
        order_id: row.order_id,
        amount: row.captured,
        gateway_ref: row.gateway_ref,
        attempt: row.refund_attempts,
        trace: TraceContext::restore(row.traceparent.as_deref(), row.tracestate.as_deref()),
    });
    Ok(jobs.collect())
}

/// How long until the next refund is due.
pub async fn next_refund(session: &mut PgConnection) -> sqlx::Result<Option<Duration>> {
    let left = sqlx::query_scalar!(
        r#"
        select extract(epoch from min(due_at) - now())::float8
        from payments where due_at is not null and state = 'REFUNDING'
        "#,
    );
    Ok(left.fetch_one(session).await?.map(from_seconds))
}

/// Less than nothing is now.
pub(super) fn from_seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
