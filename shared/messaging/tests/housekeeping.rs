//! Forgetting what nobody can ask for any more.

use std::time::Duration;

use messaging::Db;
use messaging::housekeeping::{forget, forget_settled};
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

/// A dead letter that was closed so many days ago, or never, and the redrive that it was marked by forty days ago.
async fn letter(db: &Db, state: &str, closed_days_ago: Option<i32>) -> Uuid {
    let event_id = Uuid::now_v7();
    let buried =
        "insert into dead_letters (consumer, event_id, state, reason, attempts, event_type, subject, nats_subject,
                                            stream, stream_sequence, headers, payload, buried_at, closed_at)
                  values ('ledger', $1, $2, 'broken', 1, 'type', 'order', 'shop', 'ORDER', 1, '{}', '',
                          now() - interval '40 days', now() - make_interval(days => $3))";
    let marked = "insert into dead_letter_actions (consumer, event_id, who, what, happened_at)
                  values ('ledger', $1, 'ada', 'redrive', now() - interval '40 days')";
    let buried = sqlx::query(buried).bind(event_id).bind(state).bind(closed_days_ago);
    buried.execute(db.pool()).await.unwrap();
    sqlx::query(marked).bind(event_id).execute(db.pool()).await.unwrap();
    event_id
}

#[tokio::test]
async fn a_dead_letter_is_forgotten_a_month_after_it_was_settled_and_an_open_one_never() {
    let db = Db::new(testbed::database(&MIGRATIONS).await);
    let mut kept = [
        letter(&db, "dead", None).await,
        letter(&db, "redriven", None).await,
        letter(&db, "redriven", Some(29)).await,
        letter(&db, "discarded", Some(0)).await,
    ];
    letter(&db, "redriven", Some(31)).await;
    letter(&db, "discarded", Some(39)).await;
    kept.sort();
    assert_eq!(forget_settled(&db, 30 * DAY).await.unwrap(), 4);
    for left in [
        "select event_id from dead_letters order by event_id",
        "select event_id from dead_letter_actions order by event_id",
    ] {
        let left: Vec<Uuid> = sqlx::query_scalar(left).fetch_all(db.pool()).await.unwrap();
        assert_eq!(left, kept);
    }
    assert_eq!(forget_settled(&db, 30 * DAY).await.unwrap(), 0);
}
