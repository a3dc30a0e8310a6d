//! Publishing to JetStream: a batch is stored whole or not at all.
//!
//! Source: NATS ADR-50, atomic batch publish. With `sync_interval: always` the broker syncs once a
//! batch, which makes the honest acknowledgement five to twelve times cheaper than one by one.

#![allow(clippy::disallowed_methods, reason = "this is the one place that publishes")]

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
/// Messages that the stream already holds (after a crash between publishing and forgetting) make
/// the broker refuse the batch; then each is sent by itself, in order, and deduplicated by its id.
pub(crate) async fn publish(jetstream: &jetstream::Context, messages: &[Outgoing]) -> anyhow::Result<u64> {
    if messages.len() > 1 {
        match publish_batch(jetstream, messages).await? {
            Response::Ok(ack) if ack.batch_size == Some(messages.len() as u64) => return Ok(ack.sequence),
            // It stored the first message and knows nothing of batches.
            Response::Ok(_) => tracing::warn!("the broker takes no batches, sending events one by one"),
            Response::Err { error } if error.error_code() == ErrorCode::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE => {
                tracing::info!(
                    events = messages.len(),
                    "some events were published before, sending them one by one"
                );
            }
            Response::Err { error } => return Err(error.into()),
        }
    }
    let mut last = 0;
    for message in messages {
        let Outgoing {
            subject,
            headers,
            payload,
        } = message.clone();
        let ack = jetstream.publish_with_headers(subject, headers, payload).await?.await?;
        last = ack.sequence;
    }
    Ok(last)
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
