//! Reconciliation: our payments and ledger against the gateway's own book, charge by charge.
//!
//! The audit's invariants ask whether the shop is sound; this tells an accountant what does not match, by kind, and
//! how much money it is. What may still be under way is set apart: the two books are never read at the same moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, Utc};
use sqlx::{Connection, FromRow, PgConnection};
use uuid::Uuid;

use super::books::Charge;
use super::streams;

/// In what way the books do not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The gateway took money for an order of which we know no payment.
    ChargeWithoutPayment,
    /// We say that money was taken, and the gateway knows of none.
    PaymentWithoutCharge,
    /// The gateway took money for a payment that says it took none.
    State,
    /// Another amount was taken.
    Amount,
    /// In another currency.
    Currency,
    /// Another amount went back.
    Refund,
    /// An order was charged more than once.
    ChargedTwice,
    /// An idempotency key stands for more than one charge.
    KeyUsedTwice,
    /// A charge under a key that is no payment's, for an order that has one.
    OrphanedKey,
    /// The ledger moved something else than the gateway.
    Ledger,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::ChargeWithoutPayment,
        Self::PaymentWithoutCharge,
        Self::State,
        Self::Amount,
        Self::Currency,
        Self::Refund,
        Self::ChargedTwice,
        Self::KeyUsedTwice,
        Self::OrphanedKey,
        Self::Ledger,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChargeWithoutPayment => "charge-without-payment",
            Self::PaymentWithoutCharge => "payment-without-charge",
            Self::State => "state",
            Self::Amount => "amount",
            Self::Currency => "currency",
            Self::Refund => "refund",
            Self::ChargedTwice => "charged-twice",
            Self::KeyUsedTwice => "key-used-twice",
            Self::OrphanedKey => "orphaned-key",
            Self::Ledger => "ledger",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A place where the books do not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// In what way.
    pub kind: Kind,
    /// The order, as the gateway or we call it.
    pub order: String,
    /// Who says what.
    pub says: String,
}

/// What was compared, and what was found.
#[derive(Debug, Default)]
pub struct Reconciliation {
    /// Payments that took money, or may have.
    pub payments: usize,
    /// Charges.
    pub charges: usize,
    /// What was taken less what went back, by the gateway's book, in minor units.
    pub net: i64,
    /// What does not match.
    pub mismatches: Vec<Mismatch>,
    /// What does not match yet, but is younger than the grace.
    pub under_way: Vec<Mismatch>,
}

/// A payment with what the ledger says of it.
#[derive(Debug, FromRow)]
struct Payment {
    order_id: Uuid,
    payment_id: Option<Uuid>,
    state: Option<String>,
    captured: i64,
    refunded: i64,
    currency: Option<String>,
    booked: i64,
    booked_back: i64,
    changed_at: DateTime<Utc>,
}

const PAYMENTS: &str = "
with booked as (
    select order_id, sum(debit)::bigint as taken, sum(credit)::bigint as returned, max(at) as at
    from ledger where account = 'gateway_receivable' group by order_id
), happened as (
    select order_id, max(at) as at from payment_events group by order_id
)
select order_id, payment_id, state, coalesce(captured, 0) as captured, coalesce(refunded, 0) as refunded, currency,
       coalesce(booked.taken, 0) as booked, coalesce(booked.returned, 0) as booked_back,
       coalesce(greatest(happened.at, booked.at), 'epoch') as changed_at
from payments full join booked using (order_id) left join happened using (order_id)";

/// Reads both books, ours first, and compares them; what changed less than `grace` ago may be under way.
pub async fn reconcile(database_url: &str, gateway_url: &str, grace: Duration) -> Result<Reconciliation> {
    let mut session = PgConnection::connect(database_url).await?;
    let payments: Vec<Payment> = sqlx::query_as(PAYMENTS).fetch_all(&mut session).await?;
    let (now,): (DateTime<Utc>,) = sqlx::query_as("select now()").fetch_one(&mut session).await?;
    session.close().await?;
    let charges = streams::charges(gateway_url).await?;
    Ok(compare(payments, charges, now - grace))
}

/// Ours by order, theirs by order; each looked at once.
fn compare(payments: Vec<Payment>, charges: Vec<Charge>, settled_before: DateTime<Utc>) -> Reconciliation {
    let mut found = Reconciliation {
        charges: charges.len(),
        net: charges.iter().map(|charge| charge.amount - charge.refunded).sum(),
        ..Reconciliation::default()
    };
    let mut by_order: BTreeMap<String, Vec<Charge>> = BTreeMap::new();
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for charge in charges {
        if let Some(key) = &charge.idempotency_key {
            keys.entry(key.clone()).or_default().insert(charge.id.clone());
        }
        let order = charge.order_id.clone().unwrap_or_else(|| "none".to_owned());
        by_order.entry(order).or_default().push(charge);
    }
    for payment in &payments {
        let charges = by_order.remove(&payment.order_id.to_string()).unwrap_or_default();
        found.payments += usize::from(payment.captured > 0 || !charges.is_empty());
        let young =
            payment.changed_at >= settled_before || charges.iter().any(|charge| is_young(charge, settled_before));
        found.add(judge(payment, &charges), young);
    }
    for (order, charges) in by_order {
        for charge in charges {
            let says = format!(
                "the gateway took {} {} ({}), and we know no payment",
                charge.amount, charge.currency, charge.id
            );
            let young = is_young(&charge, settled_before);
            found.add(vec![Mismatch::new(Kind::ChargeWithoutPayment, &order, says)], young);
        }
    }
    for (key, charges) in keys.into_iter().filter(|(_, charges)| charges.len() > 1) {
        let says = format!(
            "the key {key} stands for {}",
            charges.into_iter().collect::<Vec<_>>().join(" and ")
        );
        found
            .mismatches
            .push(Mismatch::new(Kind::KeyUsedTwice, "several", says));
    }
    found
}

fn is_young(charge: &Charge, settled_before: DateTime<Utc>) -> bool {
    charge.created >= settled_before.timestamp()
}

impl Reconciliation {
    fn add(&mut self, mismatches: Vec<Mismatch>, young: bool) {
        let side = if young {
            &mut self.under_way
        } else {
            &mut self.mismatches
        };
        side.extend(mismatches);
    }
}

impl Mismatch {
    fn new(kind: Kind, order: impl Into<String>, says: String) -> Self {
        Self {
            kind,
            order: order.into(),
            says,
        }
    }
}

/// One order in both books.
fn judge(payment: &Payment, charges: &[Charge]) -> Vec<Mismatch> {
    let order = payment.order_id.to_string();
    let mut found = Vec::new();
    let mut differ = |kind, says| found.push(Mismatch::new(kind, &order, says));
    if payment.payment_id.is_none() {
        differ(
            Kind::Ledger,
            format!("the ledger took {} for it, and there is no payment", payment.booked),
        );
    }
    if charges.len() > 1 {
        let ids: Vec<&str> = charges.iter().map(|charge| charge.id.as_str()).collect();
        differ(Kind::ChargedTwice, format!("the gateway charged {}", ids.join(" and ")));
    }
    let own = payment.payment_id.map(|id| id.to_string());
    for charge in charges.iter().filter(|charge| charge.idempotency_key != own) {
        let key = charge.idempotency_key.as_deref().unwrap_or("no key");
        differ(
            Kind::OrphanedKey,
            format!("{} was made under {key}, which is no payment's", charge.id),
        );
    }
    let state = payment.state.as_deref().unwrap_or("none");
    let Some(charge) = charges
        .iter()
        .find(|charge| charge.idempotency_key == own)
        .or(charges.first())
    else {
        if payment.captured > 0 {
            differ(
                Kind::PaymentWithoutCharge,
                format!("we took {} ({state}), the gateway nothing", payment.captured),
            );
        }
        return found;
    };
    found.extend(judge_charge(payment, charge));
    found
}

/// A payment and its charge.
fn judge_charge(payment: &Payment, charge: &Charge) -> Vec<Mismatch> {
    let (order, state) = (payment.order_id.to_string(), payment.state.as_deref().unwrap_or("none"));
    let mut found = Vec::new();
    let mut differ = |kind, says| found.push(Mismatch::new(kind, &order, says));
    let moved = (charge.amount, charge.refunded);
    if payment.captured == 0 {
        // What went back whole is as if it never was taken, as far as the customer goes; our books must still say so.
        differ(
            Kind::State,
            format!(
                "the payment is {state} and took nothing, {} took {}",
                charge.id, charge.amount
            ),
        );
    } else {
        if payment.captured != charge.amount {
            differ(
                Kind::Amount,
                format!("we took {}, {} says {}", payment.captured, charge.id, charge.amount),
            );
        }
        let currency = payment.currency.as_deref().unwrap_or_default();
        if !currency.eq_ignore_ascii_case(&charge.currency) {
            differ(
                Kind::Currency,
                format!("we took {currency}, {} says {}", charge.id, charge.currency),
            );
        }
        if payment.refunded != charge.refunded {
            differ(
                Kind::Refund,
                format!(
                    "we gave {} back, {} says {}",
                    payment.refunded, charge.id, charge.refunded
                ),
            );
        }
    }
    if (payment.booked, payment.booked_back) != moved {
        let (booked, back) = (payment.booked, payment.booked_back);
        let says = format!(
            "the ledger took {booked} and gave {back} back, {} says {} and {}",
            charge.id, moved.0, moved.1
        );
        differ(Kind::Ledger, says);
    }
    found
}

#[cfg(test)]
mod tests;
