//! The only SQL of the payment service: a batch's working set, the errands' work, and the queries of the API.

mod errands;
mod histories;
mod returns;
mod save;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use events::RefundCause;
use messaging::{Journal, Touched, Tx, WorkingSet};
use serde::Deserialize;
use serde_json::Value;
use sqlx::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

use crate::domain::{Due, Fact, Payment, Payments, Progress, State, Undo};

pub use returns::{
    DueReturnRefund, ReturnRefundRow, next_return_refund, open_return_refunds, return_refunds, return_refunds_in_state,
    take_return_refunds,
};

pub use errands::{DueCharge, DueRefund, Take, next_charge, next_refund, take_charges, take_refunds};
pub use histories::{Booked, History, histories};

impl WorkingSet for Payments {
    /// Locks the payments in order of their orders' ids, so that no errand takes one meanwhile.
    async fn load(tx: &mut Tx, touched: &Touched) -> sqlx::Result<Self> {
        let mut payments = Self::default();
        if !touched.keys.is_empty() {
            let known = sqlx::query_scalar!("select id from gateway_notices where id = any($1)", &touched.key_list());
            payments.known_notices = known.fetch_all(&mut **tx).await?.into_iter().collect();
        }
        let rows = sqlx::query_as!(
            PaymentRow,
            r#"
            select order_id, payment_id, state, amount, captured, refunded, currency, payment_method, expires_at,
                   gateway_ref, cause, undo, unresolved, version, attempts, refund_attempts, doubt, trouble, caused_by
            from payments where order_id = any($1) order by order_id for update
            "#,
            &touched.order_ids(),
        );
        for row in rows.fetch_all(&mut **tx).await? {
            payments
                .asked_by
                .extend(row.caused_by.map(|cause| (row.order_id, cause)));
            payments.payments.insert(row.order_id, row.into_payment());
        }
        returns::load(tx, &touched.order_ids(), &mut payments).await?;
        Ok(payments)
    }

    async fn save(self, tx: &mut Tx, journal: &Journal) -> sqlx::Result<()> {
        save::save(&self, tx, journal).await
    }
}

impl State {
    /// The word for it in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Succeeded => "SUCCEEDED",
            Self::Declined => "DECLINED",
            Self::TimedOut => "TIMED_OUT",
            Self::Refunding => "REFUNDING",
            Self::Refunded => "REFUNDED",
            Self::Voided => "VOIDED",
        }
    }

    /// The column is checked, so every word is one of ours.
    fn from_sql(word: &str) -> Self {
        match word {
            "SUCCEEDED" => Self::Succeeded,
            "DECLINED" => Self::Declined,
            "TIMED_OUT" => Self::TimedOut,
            "REFUNDING" => Self::Refunding,
            "REFUNDED" => Self::Refunded,
            "VOIDED" => Self::Voided,
            _ => Self::Pending,
        }
    }
}

impl Undo {
    fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Wanted => "WANTED",
            Self::Answered => "ANSWERED",
        }
    }

    /// The column is checked, so every word is one of ours.
    fn from_sql(word: &str) -> Self {
        match word {
            "WANTED" => Self::Wanted,
            "ANSWERED" => Self::Answered,
            _ => Self::None,
        }
    }
}

fn cause_from_sql(word: &str) -> RefundCause {
    match word {
        "SHIPPING_FAILED" => RefundCause::ShippingFailed,
        "CHARGED_TOO_LATE" => RefundCause::ChargedTooLate,
        "GOODS_RETURNED" => RefundCause::GoodsReturned,
        _ => RefundCause::OrderCancelled,
    }
}

#[derive(Debug, Deserialize)]
struct PaymentRow {
    order_id: Uuid,
    payment_id: Uuid,
    state: String,
    amount: i64,
    captured: i64,
    refunded: i64,
    currency: String,
    payment_method: String,
    expires_at: Option<DateTime<Utc>>,
    gateway_ref: Option<String>,
    cause: Option<String>,
    undo: String,
    unresolved: bool,
    version: i64,
    attempts: i32,
    refund_attempts: i32,
    doubt: bool,
    trouble: Option<String>,
    caused_by: Option<Uuid>,
}

impl PaymentRow {
    fn into_payment(self) -> Payment {
        Payment {
            order_id: self.order_id,
            payment_id: self.payment_id,
            state: State::from_sql(&self.state),
            amount: self.amount,
            captured: self.captured,
            refunded: self.refunded,
            currency: self.currency,
            payment_method: self.payment_method,
            expires_at: self.expires_at,
            gateway_ref: self.gateway_ref,
            cause: self.cause.as_deref().map(cause_from_sql),
            undo: Undo::from_sql(&self.undo),
            unresolved: self.unresolved,
            refunds: BTreeMap::new(),
            version: self.version,
            progress: Progress {
                attempts: self.attempts,
                refund_attempts: self.refund_attempts,
                doubt: self.doubt,
                trouble: self.trouble,
                due: Due::AsItWas,
                changed: false,
            },
            news: Vec::new(),
        }
    }
}

/// An order's payment, without what was refunded for returns, and its history, as one statement saw them.
pub async fn payment(pool: &PgPool, order_id: Uuid) -> sqlx::Result<Option<(Payment, Value)>> {
    let row = sqlx::query!(
        r#"
        select p.*, (
            select jsonb_agg(jsonb_build_object('version', e.version, 'type', e.type, 'at', e.at,
                                                'data', e.data - 'payment_method') order by e.version)
            from payment_events e where e.order_id = p.order_id
        ) as "events!"
        from payments p where order_id = $1
        "#,
        order_id,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| {
        let payment = PaymentRow {
            order_id: row.order_id,
            payment_id: row.payment_id,
            state: row.state,
            amount: row.amount,
            captured: row.captured,
            refunded: row.refunded,
            currency: row.currency,
            payment_method: row.payment_method,
            expires_at: row.expires_at,
            gateway_ref: row.gateway_ref,
            cause: row.cause,
            undo: row.undo,
            unresolved: row.unresolved,
            version: row.version,
            attempts: row.attempts,
            refund_attempts: row.refund_attempts,
            doubt: row.doubt,
            trouble: row.trouble,
            caused_by: None,
        };
        (payment.into_payment(), row.events)
    }))
}

/// The facts of an order's payment, in order.
pub async fn facts(pool: &PgPool, order_id: Uuid) -> sqlx::Result<Vec<Fact>> {
    let facts = sqlx::query_scalar!(
        r#"
        select jsonb_build_object('type', type, 'data', data) as "fact!: Json<Fact>"
        from payment_events where order_id = $1 order by version
        "#,
        order_id,
    );
    Ok(facts.fetch_all(pool).await?.into_iter().map(|fact| fact.0).collect())
}

/// One side of a transaction in the ledger.
#[derive(Debug)]
pub struct LedgerRow {
    /// Grows with time.
    pub id: i64,
    /// The transaction.
    pub transaction_id: Uuid,
    /// The account.
    pub account: String,
    /// In minor units.
    pub debit: i64,
    /// In minor units.
    pub credit: i64,
    /// The order.
    pub order_id: Uuid,
    /// When it was booked.
    pub at: DateTime<Utc>,
}

/// A page of the ledger, of one order or of all, after the cursor.
pub async fn ledger(pool: &PgPool, order_id: Option<Uuid>, after: i64, limit: i64) -> sqlx::Result<Vec<LedgerRow>> {
    sqlx::query_as!(
        LedgerRow,
        r#"
        select id, transaction_id, account, debit, credit, order_id, at
        from ledger where id > $2 and ($1::uuid is null or order_id = $1) order by id limit $3
        "#,
        order_id,
        after,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Everything that was ever debited and credited, in minor units.
pub async fn balance(pool: &PgPool) -> sqlx::Result<(i64, i64)> {
    let sums = sqlx::query!(
        r#"
        select coalesce(sum(debit), 0)::bigint as "debit!", coalesce(sum(credit), 0)::bigint as "credit!" from ledger
        "#,
    );
    let sums = sums.fetch_one(pool).await?;
    Ok((sums.debit, sums.credit))
}
