//! Payments rebuilt from their facts, and compared with what is stored: their rows, and the ledger.
//!
//! Every payment is read with its facts and its bookings in one snapshot, a page at a time, so that the shop may go on
//! and the number of payments does not matter.

use anyhow::Result;
use payment::domain::{Payment, Undo};
use payment::store::{Booked, History, histories};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

/// How many payments are read at a time.
const PAGE: i64 = 500;

/// Something that is stored and does not follow from the facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discrepancy {
    /// The order.
    pub order_id: Uuid,
    /// What of it.
    pub what: String,
    /// As stored.
    pub stored: String,
    /// As the facts say.
    pub rebuilt: String,
}

/// What was rebuilt, and what was found.
#[derive(Debug, Default)]
pub struct Rebuilt {
    /// Payments.
    pub payments: u64,
    /// Facts.
    pub facts: u64,
    /// In order of their orders.
    pub discrepancies: Vec<Discrepancy>,
}

/// Rebuilds every payment; `progress` is told how many are done after each page.
pub async fn rebuild_payments(database_url: &str, progress: impl Fn(u64)) -> Result<Rebuilt> {
    let mut session = PgConnection::connect(database_url).await?;
    sqlx::query("start transaction isolation level repeatable read, read only")
        .execute(&mut session)
        .await?;
    let (mut rebuilt, mut after) = (Rebuilt::default(), Uuid::nil());
    loop {
        let page = histories(&mut session, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.order_id;
        for history in page {
            rebuilt.payments += 1;
            rebuilt.facts += history.facts.as_ref().map_or(0, Vec::len) as u64;
            rebuilt.discrepancies.extend(judge(&history));
        }
        progress(rebuilt.payments);
    }
    session.close().await?;
    Ok(rebuilt)
}

/// Everything about one payment that does not follow from its facts.
fn judge(history: &History) -> Vec<Discrepancy> {
    let order_id = history.order_id;
    let mut found = Vec::new();
    let mut differ = |what: &str, stored: String, rebuilt: String| {
        if stored != rebuilt {
            found.push(Discrepancy {
                order_id,
                what: what.to_owned(),
                stored,
                rebuilt,
            });
        }
    };
    let facts = match &history.facts {
        Ok(facts) => facts,
        Err(error) => {
            differ("facts", format!("cannot be read: {error}"), "facts".to_owned());
            return found;
        }
    };
    let versions: Vec<i64> = facts.iter().map(|(version, _)| *version).collect();
    let gapless: Vec<i64> = (1..).take(versions.len()).collect();
    differ("versions", format!("{versions:?}"), format!("{gapless:?}"));
    let folded = Payment::fold(order_id, facts.iter().map(|(_, fact)| fact));
    match &history.stored {
        Some(stored) if !facts.is_empty() => {
            for (what, of) in ASPECTS {
                differ(what, of(stored), of(&folded));
            }
        }
        Some(_) => differ("facts", "none".to_owned(), "a payment begins with one".to_owned()),
        None if facts.is_empty() => differ("payment", "a booking of nothing".to_owned(), "none".to_owned()),
        None => differ("payment", "none".to_owned(), folded.state.as_str().to_owned()),
    }
    let Booked { taken, returned, sold } = history.booked;
    differ("taken in the ledger", taken.to_string(), folded.captured.to_string());
    differ(
        "paid back in the ledger",
        returned.to_string(),
        folded.refunded.to_string(),
    );
    let earned = folded.captured - folded.refunded;
    differ("sales in the ledger", sold.to_string(), earned.to_string());
    found
}

/// What the fold says of a payment, by name.
type Aspect = (&'static str, fn(&Payment) -> String);

const ASPECTS: [Aspect; 13] = [
    ("payment_id", |payment| payment.payment_id.to_string()),
    ("state", |payment| payment.state.as_str().to_owned()),
    ("amount", |payment| payment.amount.to_string()),
    ("captured", |payment| payment.captured.to_string()),
    ("refunded", |payment| payment.refunded.to_string()),
    ("currency", |payment| payment.currency.clone()),
    ("payment_method", |payment| payment.payment_method.clone()),
    ("expires_at", |payment| {
        // The database keeps microseconds.
        payment
            .expires_at
            .map_or_else(String::new, |at| at.timestamp_micros().to_string())
    }),
    ("gateway_ref", |payment| payment.gateway_ref.clone().unwrap_or_default()),
    ("cause", |payment| format!("{:?}", payment.cause)),
    ("undo", |payment| {
        match payment.undo {
            Undo::None => "not asked",
            Undo::Wanted => "owed",
            Undo::Answered => "answered",
        }
        .to_owned()
    }),
    ("unresolved", |payment| payment.unresolved.to_string()),
    ("version", |payment| payment.version.to_string()),
];
