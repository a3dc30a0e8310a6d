//! The states that orders went through.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use messaging::Tx;
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

use super::save::reason_word;
use crate::domain::{Order, StateChange};

/// One step in the life of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PastState {
    /// The order's version when it got there.
    pub version: i64,
    /// Where it stood.
    #[schema(example = "RESERVED")]
    pub state: String,
    /// Why it was cancelled, or was being cancelled.
    pub reason: Option<String>,
    /// When it got there.
    pub changed_at: DateTime<Utc>,
}

/// The states of an order after this version of it, oldest first.
pub async fn states_after(pool: &PgPool, order_id: Uuid, version: i64) -> sqlx::Result<Vec<PastState>> {
    sqlx::query_as!(
        PastState,
        "select version, state, reason, changed_at from order_states
         where order_id = $1 and version > $2 order by version",
        order_id,
        version,
    )
    .fetch_all(pool)
    .await
}

/// The versions of these orders.
pub async fn versions(pool: &PgPool, ids: &[Uuid]) -> sqlx::Result<Vec<(Uuid, i64)>> {
    let rows = sqlx::query!("select id, version from orders where id = any($1)", ids);
    let rows = rows.fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.version)).collect())
}

/// What became of the orders of a batch, also between its first event and its last.
pub(super) async fn save_states(tx: &mut Tx, orders: &BTreeMap<Uuid, Order>) -> sqlx::Result<()> {
    let changes = orders
        .values()
        .flat_map(|order| order.history.changes.iter().map(|change| (order.id, change)));
    let changes: Vec<(Uuid, &StateChange)> = changes.collect();
    if changes.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into order_states (order_id, version, state, reason)
         select * from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[])",
        &changes.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        &changes.iter().map(|(_, change)| change.version).collect::<Vec<_>>(),
        &changes
            .iter()
            .map(|(_, change)| change.state.as_str().to_owned())
            .collect::<Vec<_>>(),
        &changes
            .iter()
            .map(|(_, change)| change.reason.map(reason_word))
            .collect::<Vec<_>>() as &[Option<String>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
