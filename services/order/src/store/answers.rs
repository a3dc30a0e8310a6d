//! What was answered under idempotency keys.

use std::time::Duration;

use sqlx::PgPool;

use super::milliseconds;
use crate::domain::Answer;

/// What was answered under a key, if it was used before.
pub async fn answer(pool: &PgPool, scope: &str) -> sqlx::Result<Option<Answer>> {
    let row = sqlx::query!(
        "select fingerprint, order_id, status, body from idempotency_keys where scope = $1",
        scope
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Answer {
        fingerprint: row.fingerprint,
        order_id: row.order_id,
        status: row.status as u16,
        body: row.body,
        fresh: false,
    }))
}

/// Forgets so many of the answers that are older than that, the oldest first, and says how many there were.
pub async fn forget_answers(pool: &PgPool, keep: Duration, limit: i64) -> sqlx::Result<u64> {
    let forgotten = sqlx::query!(
        r#"
        delete from idempotency_keys where scope in (
            select scope from idempotency_keys where created_at < now() - $1::bigint * interval '1 millisecond'
            order by created_at limit $2 for update skip locked
        )
        "#,
        milliseconds(keep),
        limit,
    )
    .execute(pool)
    .await?;
    Ok(forgotten.rows_affected())
}
