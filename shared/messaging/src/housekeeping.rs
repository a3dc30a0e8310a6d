//! Forgetting what nobody can ask for any more: inbox rows and archived events older than the streams, and dead letters
//! that were settled long ago.

use std::time::Duration;

use chrono::Utc;
use tokio_util::sync::CancellationToken;
use uuid::{Builder, Uuid};

use crate::Db;
use crate::provision::STREAMS_KEEP;

/// A day longer than the streams, so that whatever is delivered again is still recognised.
const KEEP: Duration = Duration::from_secs(STREAMS_KEEP.as_secs() + 24 * 3600);
/// How long a dead letter is kept after it was handled or discarded, with what was done about it.
const KEEP_SETTLED: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often it is looked for what is too old.
const EVERY: Duration = Duration::from_secs(3600);
/// How many rows one statement forgets, so that none takes long.
const CHUNK: i64 = 10_000;

/// Forgets what is too old, every hour until shutdown.
pub async fn keep_house(db: Db, shutdown: CancellationToken) {
    loop {
        let pause = EVERY.mul_f64(0.5 + fastrand::f64());
        if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        let forgotten = async {
            forget(&db, KEEP).await?;
            forget_settled(&db, KEEP_SETTLED).await
        };
        if let Err(error) = forgotten.await {
            tracing::warn!(%error, "old rows could not be forgotten, will be tried again");
        }
    }
}

/// Forgets what is older than `keep`, in chunks.
pub async fn forget(db: &Db, keep: Duration) -> sqlx::Result<u64> {
    let before = Utc::now() - keep;
    let oldest = first_id_of(before.timestamp_millis().max(0).unsigned_abs());
    let mut forgotten = 0;
    loop {
        // UUIDv7 keys are ordered by time, so the primary key finds the old ones.
        let inbox = sqlx::query!(
            r#"
            delete from inbox where (consumer, event_id) in (
                select consumer, event_id from inbox where event_id < $1 limit $2
            )
            "#,
            oldest,
            CHUNK,
        )
        .execute(db.pool())
        .await?;
        let archive = sqlx::query!(
            "delete from outbox_archive where id in (
                select id from outbox_archive where published_at < $1 order by published_at limit $2
            )",
            before,
            CHUNK,
        )
        .execute(db.pool())
        .await?;
        forgotten += inbox.rows_affected() + archive.rows_affected();
        let full = CHUNK.unsigned_abs();
        if inbox.rows_affected() < full && archive.rows_affected() < full {
            return Ok(forgotten);
        }
    }
}

/// Forgets dead letters that were closed longer ago than `keep`, and then what was done about them, in chunks.
///
/// An open one is never forgotten, however old. A closed one is not needed to recognise its event: that is the inbox's,
/// and the streams have long forgotten it as well.
pub async fn forget_settled(db: &Db, keep: Duration) -> sqlx::Result<u64> {
    let before = Utc::now() - keep;
    let mut forgotten = 0;
    loop {
        let letters = sqlx::query!(
            "delete from dead_letters where id in (select id from dead_letters where closed_at < $1 limit $2)",
            before,
            CHUNK,
        )
        .execute(db.pool())
        .await?;
        let actions = sqlx::query!(
            r#"
            delete from dead_letter_actions where id in (
                select action.id from dead_letter_actions action
                where action.happened_at < $1 and not exists (
                    select from dead_letters letter
                    where letter.event_id = action.event_id and letter.consumer = action.consumer
                ) limit $2
            )
            "#,
            before,
            CHUNK,
        )
        .execute(db.pool())
        .await?;
        forgotten += letters.rows_affected() + actions.rows_affected();
        let full = CHUNK.unsigned_abs();
        if letters.rows_affected() < full && actions.rows_affected() < full {
            return Ok(forgotten);
        }
    }
}

/// The smallest UUIDv7 of that millisecond.
fn first_id_of(millis: u64) -> Uuid {
    Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
}
