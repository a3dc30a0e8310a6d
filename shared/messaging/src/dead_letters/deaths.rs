//! The net under the consumer: an event that was delivered again and again, and never with an outcome.
//!
//! Whoever handles it dies before it can say a word, so nobody of ours can bury it. The broker counts,
//! gives up after `max_deliver` deliveries and says so; a stream keeps that advisory until a process of
//! the service lives long enough to read it, and buries the event in its name. It may count to the end only when
//! somebody asks for more, so an event of a service that is not started again waits for that.
//!
//! The count says how often a process died that *held* the event, not which one of those it held was to
//! blame. So the event is redriven once, alone: whoever only stood beside the culprit is handled now, and
//! the culprit, whose redrive ends without an outcome as well, stays dead.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::jetstream::{self, AckKind, Message};
use futures_util::StreamExt;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::redrive::LIVES;
use super::{Letter, Place, bury_one};
use crate::{Db, Tx, provision};

/// How long until an advisory that could not be followed is read again.
const LATER: Duration = Duration::from_secs(2);
/// How often it is tried to look the event up before it is buried without its content: for longer than a cluster takes to
/// elect a leader.
const TRIES: i64 = 8;

/// What the broker says of an event that it has given up.
#[derive(Debug, Deserialize)]
struct GivenUp {
    stream: String,
    stream_seq: u64,
    deliveries: i64,
}

/// Buries what the broker has given up, until shutdown.
pub(crate) async fn bury_the_silent(
    db: Db,
    jetstream: jetstream::Context,
    service: &'static str,
    heard: HashSet<String>,
    shutdown: CancellationToken,
) {
    let undertaker = Undertaker {
        db,
        jetstream,
        service,
        heard,
    };
    while !shutdown.is_cancelled() {
        if let Some(Err(error)) = shutdown.run_until_cancelled(undertaker.work()).await {
            tracing::warn!(
                error = format!("{error:#}"),
                "the broker's advisories cannot be read, will try again"
            );
        }
        shutdown.run_until_cancelled(tokio::time::sleep(LATER)).await;
    }
}

struct Undertaker {
    db: Db,
    jetstream: jetstream::Context,
    service: &'static str,
    /// The event types that there is a reaction to.
    heard: HashSet<String>,
}

impl Undertaker {
    async fn work(&self) -> anyhow::Result<()> {
        let durable = self
            .jetstream
            .get_consumer_from_stream(self.service, provision::ADVISORIES);
        let durable: jetstream::consumer::Consumer<pull::Config> = durable.await?;
        let mut advisories = durable.messages().await?;
        while let Some(advisory) = advisories.next().await {
            let advisory = advisory?;
            let answer = match self.follow(&advisory).await {
                Ok(()) => AckKind::Ack,
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "an event cannot be buried now, will try again"
                    );
                    AckKind::Nak(Some(LATER))
                }
            };
            let _ = advisory.ack_with(answer).await;
        }
        Ok(())
    }

    async fn follow(&self, advisory: &Message) -> anyhow::Result<()> {
        let Ok(given_up) = serde_json::from_slice::<GivenUp>(&advisory.payload) else {
            tracing::error!("the broker tells of an event that it has given up, but not of which");
            return Ok(());
        };
        let tries = advisory.info().map_or(1, |info| info.delivered);
        let (mut letter, lost) = match self.look_up(&given_up).await {
            Ok(Some(letter)) => (letter, None),
            Ok(None) => (self.stand_in(&given_up), Some("the stream no longer has it")),
            Err(error) if tries < TRIES => return Err(error),
            Err(_) => (self.stand_in(&given_up), Some("the broker does not show it")),
        };
        if self.heard.contains(&letter.envelope.event_type) {
            letter.envelope.event_id = letter.envelope.fact_id();
        }
        let mut reason = format!("delivered {} times, and never with an outcome", given_up.deliveries);
        if let Some(lost) = lost {
            reason = format!("{reason}; {lost}");
        }
        self.bury(&letter, &reason, lost.is_none()).await
    }

    /// Unless it was handled after all. The claim waits for whoever may be handling it just now.
    async fn bury(&self, letter: &Letter, reason: &str, complete: bool) -> anyhow::Result<()> {
        let event_id = letter.envelope.event_id;
        let mut tx = self.db.begin().await?;
        let claimed = sqlx::query!(
            "insert into inbox (event_id, consumer) values ($1, $2) on conflict do nothing",
            event_id,
            self.service,
        )
        .execute(&mut *tx)
        .await?;
        if claimed.rows_affected() == 0 {
            return Ok(());
        }
        bury_one(&mut tx, self.service, letter, "dead", reason).await?;
        if complete {
            self.try_once_more(&mut tx, event_id, reason).await?;
        }
        tx.commit().await?;
        let event_type = letter.envelope.event_type.as_str();
        tracing::error!(%event_id, event_type, reason, "an event became a dead letter");
        Ok(())
    }

    /// As an operator would, but with one life only.
    async fn try_once_more(&self, tx: &mut Tx, event_id: Uuid, reason: &str) -> sqlx::Result<()> {
        sqlx::query!(
            r#"
            with marked as (
                update dead_letters set state = 'redriven', begun = $3
                where event_id = $1 and consumer = $2 and state = 'dead'
                returning event_id
            )
            insert into dead_letter_actions (consumer, event_id, who, what, reason)
            select $2, event_id, $2, 'redrive', $4 from marked
            "#,
            event_id,
            self.service,
            LIVES - 1,
            reason,
        )
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    async fn look_up(&self, given_up: &GivenUp) -> anyhow::Result<Option<Letter>> {
        let GivenUp {
            stream,
            stream_seq,
            deliveries,
        } = given_up;
        let found = self
            .jetstream
            .get_stream_no_info(stream)
            .await?
            .get_raw_message(*stream_seq)
            .await;
        match found {
            Ok(message) => Ok(Some(Letter::found(stream, message, *deliveries).0)),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot look up {stream}/{stream_seq}")),
        }
    }

    fn stand_in(&self, given_up: &GivenUp) -> Letter {
        let place = Place {
            nats_subject: String::new(),
            stream: given_up.stream.clone(),
            sequence: given_up.stream_seq as i64,
        };
        Letter::lost(place, given_up.deliveries)
    }
}
