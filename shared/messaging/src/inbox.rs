//! The inbox: an event's effect is committed once, however often it is delivered.

use std::collections::HashMap;

use uuid::Uuid;

use crate::Tx;
use crate::dead_letters::Letter;

/// What a consumer may do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is new.
    Fresh,
    /// It is new, but a dead letter of the same subject is before it.
    Blocked,
    /// Its effect is committed, or it came twice in this batch.
    Taken,
}

/// Which events of a batch are new to this consumer, and which must wait.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    fresh: HashMap<Uuid, Claim>,
}

impl Claims {
    /// Whether the decision is to be taken at all; a command always is.
    pub(crate) fn are_fresh(&self, heard: Option<&Letter>) -> bool {
        heard.is_none_or(|letter| self.fresh.contains_key(&letter.envelope.event_id))
    }

    /// Spends the claim: a batch may hold the same event twice.
    pub(crate) fn spend(&mut self, event_id: Uuid) -> Claim {
        self.fresh.remove(&event_id).unwrap_or(Claim::Taken)
    }
}

/// Claims the events for this consumer, in the transaction that will hold their effect.
///
/// A second transaction that claims the same event waits here until the first ends, and then finds
/// it taken (or, after a rollback, free).
pub(crate) async fn claim(tx: &mut Tx, consumer: &str, letters: &[Option<&Letter>]) -> sqlx::Result<Claims> {
    let (mut ids, mut subjects) = (Vec::new(), Vec::new());
    for letter in letters.iter().flatten() {
        ids.push(letter.envelope.event_id);
        subjects.push(letter.envelope.subject.clone());
    }
    if ids.is_empty() {
        return Ok(Claims::default());
    }
    // Ordered, so that two replicas with overlapping batches cannot deadlock.
    let rows = sqlx::query!(
        r#"
        with heard as (
            select distinct on (event_id) event_id, subject
            from unnest($2::uuid[], $3::text[]) as t (event_id, subject)
            order by event_id
        ), claimed as (
            insert into inbox (event_id, consumer)
            select event_id, $1 from heard order by event_id
            on conflict do nothing
            returning event_id
        )
        select event_id as "event_id!", exists (
            select from dead_letters d
            where d.consumer = $1 and d.subject = heard.subject and d.closed_at is null
        ) as "blocked!"
        from heard join claimed using (event_id)
        "#,
        consumer,
        &ids,
        &subjects,
    )
    .fetch_all(&mut **tx)
    .await?;
    let claim = |blocked| if blocked { Claim::Blocked } else { Claim::Fresh };
    let fresh = rows.into_iter().map(|row| (row.event_id, claim(row.blocked)));
    let mut claims = Claims { fresh: fresh.collect() };
    let redriven = letters.iter().flatten().filter(|letter| letter.redriven);
    let redriven: Vec<Uuid> = redriven.map(|letter| letter.envelope.event_id).collect();
    if !redriven.is_empty() {
        admit(tx, consumer, &redriven, &mut claims).await?;
    }
    Ok(claims)
}

/// A redriven event is blocked neither by itself nor by those behind it; one that another replica has tried
/// meanwhile is let go.
async fn admit(tx: &mut Tx, consumer: &str, redriven: &[Uuid], claims: &mut Claims) -> sqlx::Result<()> {
    let wanted = sqlx::query_scalar!(
        r#"
        select event_id from dead_letters
        where consumer = $1 and event_id = any($2) and closed_at is null and state <> 'dead'
        order by id for update
        "#,
        consumer,
        redriven,
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut let_go = Vec::new();
    for event_id in redriven {
        if wanted.contains(event_id) {
            claims.fresh.entry(*event_id).and_modify(|claim| *claim = Claim::Fresh);
        } else if claims.fresh.remove(event_id).is_some() {
            let_go.push(*event_id);
        }
    }
    sqlx::query!(
        "delete from inbox where consumer = $1 and event_id = any($2)",
        consumer,
        &let_go
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
