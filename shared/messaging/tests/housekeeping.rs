//! Forgetting what nobody can ask for any more.

use std::time::Duration;

use messaging::Db;
use messaging::housekeeping::forget;
use uuid::{Builder, Uuid};

use crate::common::MIGRATIONS;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn handled_days_ago(days: u64) -> Uuid {
    let millis = chrono::Utc::now().timestamp_millis().unsigned_abs() - days * 24 * 3600 * 1000;
    Builder::from_unix_timestamp_millis(millis, &[7; 10]).into_uuid()
}

#[tokio::test]
async fn what_is_older_than_the_streams_is_forgotten_and_nothing_else() {
    let db = Db::new(testbed::database(&MIGRATIONS).await);
    for days in [0, 7, 9, 30] {
        sqlx::query("insert into inbox (consumer, event_id) values ('ledger', $1)")
            .bind(handled_days_ago(days))
            .execute(db.pool())
            .await
            .unwrap();
        let archived = "insert into outbox_archive (published_at, stream, stream_sequence, events)
                        values (now() - make_interval(days => $1), 'ORDER', 1, '{}')";
        sqlx::query(archived)
            .bind(days as i32)
            .execute(db.pool())
            .await
            .unwrap();
    }
    assert_eq!(forget(&db, 8 * DAY).await.unwrap(), 4);
    let kept: Vec<Uuid> = sqlx::query_scalar("select event_id from inbox order by event_id")
        .fetch_all(db.pool())
        .await
        .unwrap();
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|id| *id > handled_days_ago(8)));
    assert_eq!(forget(&db, 8 * DAY).await.unwrap(), 0);
}
