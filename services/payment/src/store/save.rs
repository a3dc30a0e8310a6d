//! Writing a batch back: one statement a table and kind of change, however many payments.

use std::collections::HashMap;

use messaging::{Envelope, Journal, Tx, all_saved};
use sqlx::types::Json;
use uuid::Uuid;

use events::RefundCause;

use crate::domain::{Account, Due, Fact, Payment, Payments};

pub(super) async fn save(known: &Payments, tx: &mut Tx, journal: &Journal) -> sqlx::Result<()> {
    let changed = || known.payments.values().filter(|payment| payment.is_changed());
    let (new, old): (Vec<_>, Vec<_>) = changed().partition(|payment| payment.saved_version() == 0);
    let traces = Traces::of(journal);
    save_facts(tx, &changed().collect::<Vec<_>>()).await?;
    insert_payments(tx, &new, &traces).await?;
    update_payments(tx, &old, &traces).await?;
    super::returns::save(tx, known).await?;
    save_transfers(tx, known).await?;
    save_notices(tx, known).await
}

/// The event that asked for work, by order.
struct Traces<'a>(HashMap<Uuid, &'a Envelope>);

impl<'a> Traces<'a> {
    fn of(journal: &'a Journal) -> Self {
        let heard = journal.heard.iter();
        Self(heard.filter_map(|event| Some((event.order_id()?, event))).collect())
    }

    fn causes(&self, payments: &[&Payment]) -> Vec<Option<Uuid>> {
        column(payments, |payment| Some(self.0.get(&payment.order_id)?.event_id))
    }

    fn parents(&self, payments: &[&Payment]) -> Vec<Option<String>> {
        column(payments, |payment| self.0.get(&payment.order_id)?.trace.traceparent())
    }

    fn states(&self, payments: &[&Payment]) -> Vec<Option<String>> {
        column(payments, |payment| {
            Some(self.0.get(&payment.order_id)?.trace.tracestate()?.to_owned())
        })
    }
}

fn column<T>(payments: &[&Payment], of: impl Fn(&Payment) -> T) -> Vec<T> {
    payments.iter().map(|payment| of(payment)).collect()
}

/// Appends what happened. The key guards against a concurrent writer: whoever comes second decides again.
async fn save_facts(tx: &mut Tx, changed: &[&Payment]) -> sqlx::Result<()> {
    let (mut orders, mut versions, mut facts) = (Vec::new(), Vec::new(), Vec::<Json<&Fact>>::new());
    for payment in changed {
        for (version, fact) in (payment.saved_version() + 1..).zip(&payment.news) {
            orders.push(payment.order_id);
            versions.push(version);
            facts.push(Json(fact));
        }
    }
    if facts.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into payment_events (order_id, version, type, data)
        select order_id, version, fact->>'type', fact->'data'
        from unnest($1::uuid[], $2::bigint[], $3::jsonb[]) as t (order_id, version, fact)
        "#,
        &orders,
        &versions,
        &facts as &[Json<&Fact>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn insert_payments(tx: &mut Tx, new: &[&Payment], traces: &Traces<'_>) -> sqlx::Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into payments (order_id, payment_id, state, amount, currency, payment_method, expires_at, give_up_at,
                              cause, undo, version, due_at, traceparent, tracestate, caused_by)
        select order_id, payment_id, state, amount, currency, payment_method, expires_at, expires_at,
               cause, undo, version, now() + make_interval(secs => wait), traceparent, tracestate, caused_by
        from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::timestamptz[],
                    $8::text[], $9::text[], $10::bigint[], $11::float8[], $12::text[], $13::text[], $14::uuid[])
            as t (order_id, payment_id, state, amount, currency, payment_method, expires_at, cause, undo, version,
                  wait, traceparent, tracestate, caused_by)
        "#,
        &column(new, |payment| payment.order_id),
        &column(new, |payment| payment.payment_id),
        &column(new, |payment| payment.state.as_str().to_owned()),
        &column(new, |payment| payment.amount),
        &column(new, |payment| payment.currency.clone()),
        &column(new, |payment| payment.payment_method.clone()),
        &column(new, |payment| payment.expires_at) as &[Option<_>],
        &column(new, cause) as &[Option<String>],
        &column(new, |payment| payment.undo.as_str().to_owned()),
        &column(new, |payment| payment.version),
        &column(new, wait) as &[Option<f64>],
        &traces.parents(new) as &[Option<String>],
        &traces.states(new) as &[Option<String>],
        &traces.causes(new) as &[Option<Uuid>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A payment keeps its due time and its trace unless the batch says otherwise.
async fn update_payments(tx: &mut Tx, old: &[&Payment], traces: &Traces<'_>) -> sqlx::Result<()> {
    if old.is_empty() {
        return Ok(());
    }
    let saved = sqlx::query!(
        r#"
        update payments as known
        set state = t.state, captured = t.captured, refunded = t.refunded, gateway_ref = t.gateway_ref,
            cause = t.cause, undo = t.undo, unresolved = t.unresolved, version = t.version, doubt = t.doubt,
            trouble = t.trouble,
            due_at = case when t.as_it_was then known.due_at else now() + make_interval(secs => t.wait) end,
            traceparent = coalesce(t.traceparent, known.traceparent),
            tracestate = case when t.traceparent is null then known.tracestate else t.tracestate end,
            caused_by = coalesce(t.caused_by, known.caused_by)
        from unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[],
                    $8::text[], $9::boolean[], $10::bigint[], $11::boolean[], $12::text[], $13::boolean[],
                    $14::float8[], $15::text[], $16::text[], $17::uuid[])
            as t (order_id, saved_version, state, captured, refunded, gateway_ref, cause, undo, unresolved, version,
                  doubt, trouble, as_it_was, wait, traceparent, tracestate, caused_by)
        where known.order_id = t.order_id and known.version = t.saved_version
        "#,
        &column(old, |payment| payment.order_id),
        &column(old, Payment::saved_version),
        &column(old, |payment| payment.state.as_str().to_owned()),
        &column(old, |payment| payment.captured),
        &column(old, |payment| payment.refunded),
        &column(old, |payment| payment.gateway_ref.clone()) as &[Option<String>],
        &column(old, cause) as &[Option<String>],
        &column(old, |payment| payment.undo.as_str().to_owned()),
        &column(old, |payment| payment.unresolved),
        &column(old, |payment| payment.version),
        &column(old, |payment| payment.progress.doubt),
        &column(old, |payment| payment.progress.trouble.clone()) as &[Option<String>],
        &column(old, |payment| payment.progress.due == Due::AsItWas),
        &column(old, wait) as &[Option<f64>],
        &traces.parents(old) as &[Option<String>],
        &traces.states(old) as &[Option<String>],
        &traces.causes(old) as &[Option<Uuid>],
    )
    .execute(&mut **tx)
    .await?;
    all_saved(saved.rows_affected(), old.len())
}

fn cause(payment: &Payment) -> Option<String> {
    let word = match payment.cause? {
        RefundCause::ShippingFailed => "SHIPPING_FAILED",
        RefundCause::OrderCancelled => "ORDER_CANCELLED",
        RefundCause::ChargedTooLate => "CHARGED_TOO_LATE",
        RefundCause::GoodsReturned => "GOODS_RETURNED",
    };
    Some(word.to_owned())
}

/// In seconds; none is never.
fn wait(payment: &Payment) -> Option<f64> {
    match payment.progress.due {
        Due::In(wait) => Some(wait.as_secs_f64()),
        Due::Never | Due::AsItWas => None,
    }
}

impl Account {
    fn as_str(self) -> &'static str {
        match self {
            Self::GatewayReceivable => "gateway_receivable",
            Self::Sales => "sales",
        }
    }
}

/// Both sides of every transfer.
async fn save_transfers(tx: &mut Tx, known: &Payments) -> sqlx::Result<()> {
    let transfers = &known.transfers;
    if transfers.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into ledger (transaction_id, account, debit, credit, order_id)
        select t.id, side.account, side.debit, side.credit, t.order_id
        from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::uuid[])
            as t (id, debited, credited, amount, order_id)
        cross join lateral (values (t.debited, t.amount, 0), (t.credited, 0, t.amount))
            as side (account, debit, credit)
        "#,
        &transfers
            .iter()
            .map(|transfer| transfer.transaction_id)
            .collect::<Vec<_>>(),
        &transfers
            .iter()
            .map(|transfer| transfer.debited.as_str().to_owned())
            .collect::<Vec<_>>(),
        &transfers
            .iter()
            .map(|transfer| transfer.credited.as_str().to_owned())
            .collect::<Vec<_>>(),
        &transfers.iter().map(|transfer| transfer.amount).collect::<Vec<_>>(),
        &transfers.iter().map(|transfer| transfer.order_id).collect::<Vec<_>>(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn save_notices(tx: &mut Tx, known: &Payments) -> sqlx::Result<()> {
    if known.new_notices.is_empty() {
        return Ok(());
    }
    let notices: Vec<String> = known.new_notices.iter().cloned().collect();
    sqlx::query!("insert into gateway_notices (id) select unnest($1::text[])", &notices)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
