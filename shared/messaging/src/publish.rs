//! Publishing to JetStream: a batch is stored whole or not at all.
//!
//! Source: NATS ADR-50, atomic batch publish. With `sync_interval: always` the broker syncs once a
//! batch, which makes the honest acknowledgement five to twelve times cheaper than one by one.

#![allow(clippy::disallowed_methods, reason = "this is the one place that publishes")]

use std::collections::HashSet;
use std::time::Duration;

use async_nats::header::{NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::{self, ErrorCode, response::Response};
use async_nats::{HeaderMap, Request};
use bytes::Bytes;
use uuid::Uuid;

use crate::fault_points::reach;

/// The broker's limit.
pub(crate) const LARGEST_BATCH: i64 = 1_000;
/// How many messages are under way at once when they are sent one by one.
const GROUP: usize = 64;
/// How long an acknowledgement may take.
const ACK_WITHIN: Duration = Duration::from_secs(5);

/// A message ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

/// Stores every message and returns the stream sequence of the last.
///
/// Messages that the stream already holds (after a crash between publishing and forgetting) make the
/// broker refuse the batch. They are the oldest, so small groups are sent message by message, and
/// recognised by their ids, until one of a group is new; what is left is a batch again.
pub(crate) async fn publish(jetstream: &jetstream::Context, messages: &[Outgoing]) -> anyhow::Result<u64> {
    let mut takes_batches = true;
    let mut left = messages;
    let mut last = 0;
    while !left.is_empty() {
        if takes_batches && left.len() > 1 {
            match publish_batch(jetstream, left).await? {
                Response::Ok(ack) if ack.batch_size == Some(left.len() as u64) => return Ok(ack.sequence),
                Response::Ok(_) => {
                    // It stored the first message and knows nothing of batches.
                    tracing::warn!("the broker takes no batches, sending events one by one");
                    takes_batches = false;
                }
                Response::Err { error }
                    if error.error_code() == ErrorCode::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE =>
                {
                    tracing::info!(events = left.len(), "some events were published before");
                }
                Response::Err { error } => return Err(error.into()),
            }
        }
        let mut known = true;
        while known && !left.is_empty() {
            let (group, rest) = left.split_at(independent(left));
            (last, known) = publish_group(jetstream, group).await?;
            left = rest;
        }
    }
    Ok(last)
}

/// How many of the first messages are about a subject each: if one of them is lost on its way, or refused, and a later
/// one is stored, no subject's order is broken.
fn independent(messages: &[Outgoing]) -> usize {
    let mut subjects = HashSet::new();
    let subject = |message: &Outgoing| message.headers.get("ce-subject").map(ToString::to_string);
    let first = messages.iter().take(GROUP);
    first.take_while(|message| subjects.insert(subject(message))).count()
}

/// One by one, but without waiting in between; each must be about another subject.
///
/// Returns the sequence of the last, and whether the stream knew all of them.
async fn publish_group(jetstream: &jetstream::Context, group: &[Outgoing]) -> anyhow::Result<(u64, bool)> {
    let mut sent = Vec::with_capacity(group.len());
    for message in group {
        let Outgoing {
            subject,
            headers,
            payload,
        } = message.clone();
        sent.push(jetstream.publish_with_headers(subject, headers, payload).await?);
    }
    let (mut last, mut known) = (0, true);
    for ack in sent {
        let ack = ack.await?;
        last = ack.sequence;
        known &= ack.duplicate;
    }
    Ok((last, known))
}

/// The first message is a request, so that a stream that takes no batches says so at once; the last commits.
async fn publish_batch(jetstream: &jetstream::Context, messages: &[Outgoing]) -> anyhow::Result<Response<PublishAck>> {
    let client = jetstream.client();
    let batch = Uuid::now_v7().to_string();
    for (index, message) in messages.iter().enumerate() {
        let Outgoing {
            subject,
            mut headers,
            payload,
        } = message.clone();
        headers.insert(NATS_BATCH_ID, batch.as_str());
        headers.insert(NATS_BATCH_SEQUENCE, (index + 1).to_string());
        if index + 1 == messages.len() {
            headers.insert(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
        } else if index > 0 {
            client.publish_with_headers(subject, headers, payload).await?;
            reach("relay.half-sent").await?;
            continue;
        }
        let request = Request::new()
            .headers(headers)
            .payload(payload)
            .timeout(Some(ACK_WITHIN));
        let answer = client.send_request(subject, request).await?;
        if !answer.payload.is_empty() {
            return Ok(serde_json::from_slice(&answer.payload)?);
        }
    }
    anyhow::bail!("the broker did not acknowledge the batch")
}
