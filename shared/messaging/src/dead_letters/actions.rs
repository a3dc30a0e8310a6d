//! What an operator does about dead letters. Every action is kept with who, when and why.

use uuid::Uuid;

use super::storable;
use crate::Db;

/// What came of an operator's wish about one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is so now, or was already.
    Accepted,
    /// There is no such dead letter.
    Unknown,
    /// Not in the state that it is in, which is told.
    Refused(String),
}

/// Which dead events are meant: all of them, or those with this reason or type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matching {
    /// Exactly this reason.
    pub reason: Option<String>,
    /// Exactly this CloudEvents type.
    pub event_type: Option<String>,
}

/// Marks a dead event to be tried again now; what is parked behind it follows.
pub async fn redrive_one(db: &Db, consumer: &str, event_id: Uuid, who: &str) -> sqlx::Result<Answer> {
    let marked = sqlx::query!(
        r#"
        with marked as (
            update dead_letters d set state = 'redriven', due_at = now(), begun = 0
            where d.consumer = $1 and d.event_id = $2 and d.state = 'dead'
            returning d.event_id, d.reason
        )
        insert into dead_letter_actions (consumer, event_id, who, what, reason)
        select $1, event_id, $3, 'redrive', reason from marked
        "#,
        consumer,
        event_id,
        storable(who),
    )
    .execute(db.pool())
    .await?;
    if marked.rows_affected() > 0 {
        return Ok(Answer::Accepted);
    }
    Ok(match state(db, consumer, event_id).await? {
        None => Answer::Unknown,
        Some((state, false)) if state == "redriven" => Answer::Accepted,
        Some((_, false)) => {
            Answer::Refused("it is parked: it follows by itself when what is before it is handled".into())
        }
        Some((state, true)) => Answer::Refused(past(&state)),
    })
}

/// Marks every dead event that matches, so many a second, and returns how many; a dry run only counts.
pub async fn redrive_matching(
    db: &Db,
    consumer: &str,
    matching: &Matching,
    per_second: u32,
    who: &str,
    dry_run: bool,
) -> sqlx::Result<i64> {
    let Matching { reason, event_type } = matching;
    if dry_run {
        return sqlx::query_scalar!(
            r#"
            select count(*) as "events!" from dead_letters
            where consumer = $1 and state = 'dead' and ($2::text is null or reason = $2)
              and ($3::text is null or event_type = $3)
            "#,
            consumer,
            reason.as_deref(),
            event_type.as_deref(),
        )
        .fetch_one(db.pool())
        .await;
    }
    let marked = sqlx::query!(
        r#"
        with chosen as (
            select id, row_number() over (order by id) - 1 as turn from dead_letters
            where consumer = $1 and state = 'dead' and ($2::text is null or reason = $2)
              and ($3::text is null or event_type = $3)
        ), marked as (
            update dead_letters d
            set state = 'redriven', due_at = now() + chosen.turn * interval '1 second' / $4, begun = 0
            from chosen where d.id = chosen.id and d.state = 'dead'
            returning d.event_id, d.reason
        )
        insert into dead_letter_actions (consumer, event_id, who, what, reason)
        select $1, event_id, $5, 'redrive', reason from marked
        "#,
        consumer,
        reason.as_deref(),
        event_type.as_deref(),
        f64::from(per_second.max(1)),
        storable(who),
    )
    .execute(db.pool())
    .await?;
    Ok(marked.rows_affected() as i64)
}

/// Gives an open dead letter up for ever; what is parked behind it follows.
///
/// Its event gets an inbox row in the same transaction, so that a redelivery does nothing.
pub async fn discard(db: &Db, consumer: &str, event_id: Uuid, who: &str, reason: &str) -> sqlx::Result<Answer> {
    let mut tx = db.begin().await?;
    // The inbox first, as in a unit of work: whoever tries the event just now ends before or begins after this.
    let claimed = sqlx::query!(
        "insert into inbox (event_id, consumer)
         select event_id, consumer from dead_letters where event_id = $1 and consumer = $2 and closed_at is null
         on conflict do nothing",
        event_id,
        consumer,
    )
    .execute(&mut *tx)
    .await?;
    let discarded = sqlx::query!(
        r#"
        with discarded as (
            update dead_letters set state = 'discarded', closed_at = now()
            where consumer = $1 and event_id = $2 and closed_at is null
            returning event_id
        )
        insert into dead_letter_actions (consumer, event_id, who, what, reason)
        select $1, event_id, $3, 'discard', $4 from discarded
        "#,
        consumer,
        event_id,
        storable(who),
        storable(reason),
    )
    .execute(&mut *tx)
    .await?;
    if claimed.rows_affected() == 1 && discarded.rows_affected() == 1 {
        tx.commit().await?;
        return Ok(Answer::Accepted);
    }
    drop(tx);
    Ok(match state(db, consumer, event_id).await? {
        None => Answer::Unknown,
        Some((state, _)) => Answer::Refused(past(&state)),
    })
}

/// The state of a dead letter, and whether it is closed.
async fn state(db: &Db, consumer: &str, event_id: Uuid) -> sqlx::Result<Option<(String, bool)>> {
    let row = sqlx::query!(
        r#"
        select state, closed_at is not null as "closed!" from dead_letters where consumer = $1 and event_id = $2
        "#,
        consumer,
        event_id,
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(row.map(|row| (row.state, row.closed)))
}

fn past(state: &str) -> String {
    let past = if state == "discarded" { "discarded" } else { "handled" };
    format!("it was {past} already")
}
