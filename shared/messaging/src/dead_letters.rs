//! Dead letters: what cannot be handled is kept with its reason, and blocks only its own subject.
//!
//! ```text
//!   delivered ──fault──▶ dead ◀──fails again── redriven ──handled──▶ closed, and in the inbox
//!   delivered ──later──▶ parked                   ▲
//!                          │  dead ──redrive──────┤
//!                          └──nothing before it───┘        any open one ──discard──▶ closed, and in the inbox
//! ```
//!
//! An event that was heard is in the inbox or an *open* dead letter: never both, never neither. While
//! a subject has an open dead letter, its later events are parked behind it; once the first of them is
//! out of the way, they follow in their order.
//!
//! Parking keeps a broken order from being led further astray, but it is no promise of order: an event
//! that another replica has claimed before the dead letter is committed is handled, and so is one that
//! comes while an earlier one waits for its next attempt. Reactions are right in any order.

mod actions;
mod deaths;
mod letter;
mod look;
mod redrive;

use serde_json::{Map, Value};

pub use actions::{Answer, Matching, discard, redrive_matching, redrive_one};
pub(crate) use deaths::bury_the_silent;
pub(crate) use letter::{Letter, Place};
pub use look::{Action, DeadLetter, Filter, Group, Shown, groups, list, open, show};
pub(crate) use redrive::redrive;

use crate::unit::Verdict;
use crate::{Fault, Tx};

const WAITS: &str = "waits behind a dead letter of the same subject";

/// Moves the batch's faulty and parked events from the inbox to the dead letters, and closes those that were handled.
pub(crate) async fn bury(
    tx: &mut Tx,
    consumer: &str,
    letters: &[Option<&Letter>],
    verdicts: &[Verdict],
) -> sqlx::Result<()> {
    for (letter, verdict) in letters.iter().zip(verdicts) {
        let Some(letter) = letter else { continue };
        match verdict {
            Verdict::Buried(fault) if letter.redriven => fail_again(tx, consumer, letter, fault).await?,
            Verdict::Buried(fault) => bury_one(tx, consumer, letter, "dead", &fault.to_string()).await?,
            Verdict::Parked => bury_one(tx, consumer, letter, "parked", WAITS).await?,
            _ if letter.redriven => close(tx, consumer, letter).await?,
            Verdict::Done | Verdict::AlreadyDone | Verdict::Ignored => {}
        }
    }
    Ok(())
}

/// A new dead letter; one that is known already stays as it is.
async fn bury_one(tx: &mut Tx, consumer: &str, letter: &Letter, state: &str, reason: &str) -> sqlx::Result<()> {
    let headers: Map<String, Value> = letter
        .headers
        .iter()
        .map(|(name, all)| (name.clone(), stored(all)))
        .collect();
    sqlx::query!(
        r#"
        with unclaimed as (delete from inbox where event_id = $2 and consumer = $1)
        insert into dead_letters (consumer, event_id, state, reason, attempts, event_type, subject, nats_subject,
                                  stream, stream_sequence, headers, payload)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        on conflict (event_id, consumer) do nothing
        "#,
        consumer,
        letter.envelope.event_id,
        state,
        storable(reason),
        letter.attempts,
        storable(&letter.envelope.event_type),
        letter.envelope.subject,
        letter.place.nats_subject,
        letter.place.stream,
        letter.place.sequence,
        Value::Object(headers),
        letter.payload.as_ref(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// It was redriven, or followed, in vain: dead again, with the new reason.
async fn fail_again(tx: &mut Tx, consumer: &str, letter: &Letter, fault: &Fault) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        with unclaimed as (
            delete from inbox where event_id = $2 and consumer = $1
        ), failed as (
            update dead_letters
            set state = 'dead', reason = $3, attempts = attempts + 1, begun = 0, buried_at = now()
            where consumer = $1 and event_id = $2 and closed_at is null
            returning event_id
        )
        insert into dead_letter_actions (consumer, event_id, who, what, reason)
        select $1, event_id, $1, 'failed', $3 from failed
        "#,
        consumer,
        letter.envelope.event_id,
        storable(&fault.to_string()),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Its effect is in this transaction, or was committed before; only then is its inbox row there.
async fn close(tx: &mut Tx, consumer: &str, letter: &Letter) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        with handled as (
            update dead_letters set state = 'redriven', attempts = attempts + 1, begun = 0, closed_at = now()
            where consumer = $1 and event_id = $2 and closed_at is null
              and exists (select from inbox where event_id = $2 and consumer = $1)
            returning event_id
        )
        insert into dead_letter_actions (consumer, event_id, who, what)
        select $1, event_id, $1, 'handled' from handled
        "#,
        consumer,
        letter.envelope.event_id,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// PostgreSQL's text holds every character but one.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A header as a text, or as a list when it came more than once; what was unreadable stays so.
fn stored(values: &[String]) -> Value {
    let text = |value: &String| Value::from(value.replace('\0', "\u{1}"));
    match values {
        [only] => text(only),
        several => several.iter().map(text).collect(),
    }
}
