//! Dead letters: what cannot be handled is kept with its reason, and blocks only its own subject.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

use crate::unit::Verdict;
use crate::{Envelope, Tx};

/// An event as it was delivered.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) envelope: Envelope,
    pub(crate) stream: String,
    pub(crate) stream_sequence: i64,
    /// How often it was tried, this time included.
    pub(crate) attempts: i64,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) payload: Bytes,
}

/// Moves the batch's faulty and parked events from the inbox to the dead letters.
///
/// An event is either in the inbox or an open dead letter, never both, so that redriving it claims it anew.
pub(crate) async fn bury(
    tx: &mut Tx,
    consumer: &str,
    letters: &[Option<&Letter>],
    verdicts: &[Verdict],
) -> sqlx::Result<()> {
    for (letter, verdict) in letters.iter().zip(verdicts) {
        let Some(letter) = letter else { continue };
        match verdict {
            Verdict::Buried(fault) => bury_one(tx, consumer, letter, "dead", &fault.to_string()).await?,
            Verdict::Parked => {
                bury_one(
                    tx,
                    consumer,
                    letter,
                    "parked",
                    "waits behind a dead letter of the same subject",
                )
                .await?;
            }
            Verdict::Done | Verdict::AlreadyDone => {}
        }
    }
    Ok(())
}

async fn bury_one(tx: &mut Tx, consumer: &str, letter: &Letter, state: &str, reason: &str) -> sqlx::Result<()> {
    let Letter {
        envelope,
        stream,
        stream_sequence,
        attempts,
        headers,
        payload,
    } = letter;
    let headers: Value = headers
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(storable(value))))
        .collect();
    sqlx::query!(
        r#"
        with unclaimed as (delete from inbox where consumer = $1 and event_id = $2)
        insert into dead_letters (consumer, event_id, state, reason, attempts, event_type, subject, stream,
                                  stream_sequence, headers, payload)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        on conflict (consumer, event_id) do nothing
        "#,
        consumer,
        envelope.event_id,
        state,
        storable(reason),
        attempts,
        storable(&envelope.event_type),
        envelope.subject,
        stream,
        stream_sequence,
        headers,
        payload.as_ref(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// PostgreSQL's text holds every character but one.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
