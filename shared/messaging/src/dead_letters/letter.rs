//! An event as it was delivered, with all that is needed to handle it later.

use std::collections::BTreeMap;

use async_nats::jetstream::Message;
use async_nats::jetstream::message::StreamMessage;
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use serde_json::Value;

use crate::{Envelope, Fault};

/// An event as it was delivered.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) envelope: Envelope,
    pub(crate) place: Place,
    /// How often it was tried, this time included.
    pub(crate) attempts: i64,
    pub(crate) headers: BTreeMap<String, Vec<String>>,
    pub(crate) payload: Bytes,
    /// Whether it comes from the dead letters, not from the broker.
    pub(crate) redriven: bool,
}

/// Where in the broker an event is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub(crate) nats_subject: String,
    pub(crate) stream: String,
    pub(crate) sequence: i64,
}

impl Letter {
    /// Reads a delivery, and whether its envelope can be believed.
    pub(crate) fn delivered(message: &Message) -> (Self, Result<(), Fault>) {
        let (stream, sequence, attempts) = match &message.info() {
            Ok(info) => (info.stream.to_owned(), info.stream_sequence as i64, info.delivered),
            Err(_) => (String::new(), 0, 1),
        };
        let place = Place {
            nats_subject: message.subject.to_string(),
            stream,
            sequence,
        };
        Self::read(
            place,
            message.headers.as_ref(),
            Bytes::clone(&message.payload),
            attempts,
        )
    }

    /// The same for a message that was looked up.
    pub(crate) fn found(stream: &str, message: StreamMessage, attempts: i64) -> (Self, Result<(), Fault>) {
        let place = Place {
            nats_subject: message.subject.to_string(),
            stream: stream.to_owned(),
            sequence: message.sequence as i64,
        };
        Self::read(place, Some(&message.headers), message.payload, attempts)
    }

    /// The same for one that was kept.
    pub(crate) fn kept(place: Place, headers: &Value, payload: Vec<u8>, attempts: i64) -> (Self, Result<(), Fault>) {
        let (letter, readable) = Self::read(place, Some(&restored(headers)), payload.into(), attempts);
        (
            Self {
                redriven: true,
                ..letter
            },
            readable,
        )
    }

    /// A message that is no longer there, or that we may not see.
    pub(crate) fn lost(place: Place, attempts: i64) -> Self {
        Self::read(place, None, Bytes::new(), attempts).0
    }

    fn read(place: Place, headers: Option<&HeaderMap>, payload: Bytes, attempts: i64) -> (Self, Result<(), Fault>) {
        let headers = headers.filter(|headers| !headers.is_empty());
        let (envelope, readable) = envelope(&place, headers);
        let kept = headers.into_iter().flat_map(HeaderMap::iter);
        let kept = kept.filter(|(name, _)| !name.to_string().starts_with("Nats-Batch"));
        let letter = Self {
            envelope,
            place,
            attempts,
            headers: kept
                .map(|(name, values)| (name.to_string(), values.iter().map(ToString::to_string).collect()))
                .collect(),
            payload,
            redriven: false,
        };
        (letter, readable)
    }
}

fn envelope(place: &Place, headers: Option<&HeaderMap>) -> (Envelope, Result<(), Fault>) {
    let Place {
        nats_subject,
        stream,
        sequence,
    } = place;
    let stand_in = |believed| Envelope::stand_in(believed, nats_subject, &format!("{stream}/{sequence}"));
    match Envelope::from_headers(headers) {
        Ok(envelope) if envelope.nats_subject() == nats_subject => (envelope, Ok(())),
        Ok(forged) => {
            let reason = format!("{} came on the subject {nats_subject}", forged.event_type);
            (stand_in(None), Err(Fault::new(reason)))
        }
        Err(reason) => (stand_in(headers), Err(Fault::new(reason))),
    }
}

fn restored(stored: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in stored.as_object().into_iter().flatten() {
        let values = values.as_array().map_or(std::slice::from_ref(values), Vec::as_slice);
        for value in values.iter().filter_map(Value::as_str) {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
                headers.append(name, value);
            }
        }
    }
    headers
}
