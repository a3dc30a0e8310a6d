//! Payments as they are stored beside what they are made of, for whoever checks that the one follows from the other.

use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::PaymentRow;
use crate::domain::{Fact, Payment};

/// A payment three times over.
#[derive(Debug)]
pub struct History {
    /// The order.
    pub order_id: Uuid,
    /// As its row says; none if it has only facts.
    pub stored: Option<Payment>,
    /// Its facts with their versions, or why one cannot be read.
    pub facts: Result<Vec<(i64, Fact)>, String>,
    /// What the ledger says.
    pub booked: Booked,
}

/// Sums of the ledger for one order, in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Booked {
    /// Debited to what the gateway owes us.
    pub taken: i64,
    /// Credited to it.
    pub returned: i64,
    /// Sales less what went back.
    pub sold: i64,
}

/// The next payments after an order, in order of their ids.
pub async fn histories(session: &mut PgConnection, after: Uuid, limit: i64) -> sqlx::Result<Vec<History>> {
    let rows = sqlx::query!(
        r#"
        with page as (
            (select order_id from payments where order_id > $1 order by order_id limit $2)
            union
            (select distinct order_id from payment_events where order_id > $1 order by order_id limit $2)
            union
            (select distinct order_id from ledger where order_id > $1 order by order_id limit $2)
            order by order_id limit $2
        )
        select page.order_id as "order_id!",
               (select to_jsonb(p) from payments p where p.order_id = page.order_id) as "stored: Json<PaymentRow>",
               (select coalesce(jsonb_agg(jsonb_build_array(version, jsonb_build_object('type', type, 'data', data))
                                          order by version), '[]')
                from payment_events e where e.order_id = page.order_id) as "facts!",
               (select coalesce(sum(debit), 0)::bigint from ledger l
                where l.order_id = page.order_id and account = 'gateway_receivable') as "taken!",
               (select coalesce(sum(credit), 0)::bigint from ledger l
                where l.order_id = page.order_id and account = 'gateway_receivable') as "returned!",
               (select coalesce(sum(credit - debit), 0)::bigint from ledger l
                where l.order_id = page.order_id and account = 'sales') as "sold!"
        from page order by page.order_id
        "#,
        after,
        limit,
    );
    let rows = rows.fetch_all(session).await?;
    let histories = rows.into_iter().map(|row| History {
        order_id: row.order_id,
        stored: row.stored.map(|Json(stored)| stored.into_payment()),
        facts: read(row.facts),
        booked: Booked {
            taken: row.taken,
            returned: row.returned,
            sold: row.sold,
        },
    });
    Ok(histories.collect())
}

/// A fact that cannot be read is itself something to report.
fn read(facts: Value) -> Result<Vec<(i64, Fact)>, String> {
    serde_json::from_value(facts).map_err(|error| error.to_string())
}
