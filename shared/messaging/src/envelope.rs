//! The envelope of an event: CloudEvents 1.0, binary mode, in NATS headers.

use std::str::FromStr;

use async_nats::{HeaderMap, HeaderValue};
use chrono::{DateTime, SecondsFormat, Utc};
use telemetry::TraceContext;
use uuid::Uuid;

/// The longest text in an envelope, in bytes.
const LONGEST_TEXT: usize = 512;

/// Everything about an event but its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The same on every redelivery; `Nats-Msg-Id`, `ce-id`, and the inbox key.
    pub event_id: Uuid,
    /// `shop.order.OrderPlaced.v1`.
    pub event_type: String,
    /// Order id, or sku.
    pub subject: String,
    /// Counts the producer's events of this subject from 1.
    pub sequence: i64,
    /// The order id.
    pub correlation_id: String,
    /// The event that this one follows from.
    pub causation_id: Option<Uuid>,
    /// By the producer's database clock.
    pub occurred_at: DateTime<Utc>,
    /// The producing span.
    pub trace: TraceContext,
}

impl Envelope {
    /// The event's name without owner and version, `OrderPlaced`.
    pub fn name(&self) -> &str {
        self.event_type.split('.').nth(2).unwrap_or(&self.event_type)
    }

    /// The service that emitted it, `order`.
    pub fn producer(&self) -> &str {
        self.event_type.split('.').nth(1).unwrap_or_default()
    }

    /// Where it is told, `shop.order.OrderPlaced`; nobody but its producer may publish there.
    pub(crate) fn nats_subject(&self) -> &str {
        self.event_type
            .rsplit_once('.')
            .map_or("", |(subject, _version)| subject)
    }

    /// The version of its content.
    pub fn version(&self) -> u16 {
        let version = self.event_type.rsplit_once(".v").map(|(_, version)| version.parse());
        version.and_then(Result::ok).unwrap_or(1)
    }

    /// What the event tells, in whichever version: who hears two of them acts on the first only.
    pub(crate) fn fact_id(&self) -> Uuid {
        events::fact_id(self.event_id, self.version())
    }

    /// The order it is about, or none for facts about a product.
    pub fn order_id(&self) -> Option<Uuid> {
        self.subject.parse().ok()
    }

    /// The headers of the NATS message.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let id = self.event_id.to_string();
        let (name, version) = (self.name(), self.event_type.rsplit('.').next().unwrap_or("v1"));
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id.as_str());
        headers.insert("ce-id", id.as_str());
        headers.insert("ce-specversion", "1.0");
        headers.insert("ce-type", self.event_type.as_str());
        headers.insert("ce-source", format!("/shop/{}", self.producer()));
        headers.insert("ce-time", self.occurred_at.to_rfc3339_opts(SecondsFormat::Micros, true));
        headers.insert("ce-subject", self.subject.as_str());
        headers.insert("ce-dataschema", format!("/shop/schemas/{name}.{version}.json"));
        headers.insert("ce-sequence", self.sequence.to_string());
        headers.insert("ce-correlationid", self.correlation_id.as_str());
        if let Some(cause) = self.causation_id {
            headers.insert("ce-causationid", cause.to_string());
        }
        if let Some(parent) = self.trace.traceparent() {
            headers.insert("traceparent", parent);
        }
        if let Some(state) = self.trace.tracestate() {
            headers.insert("tracestate", state);
        }
        headers
    }

    /// Reads the headers; the error says which one is missing or malformed.
    pub fn from_headers(headers: Option<&HeaderMap>) -> Result<Self, String> {
        let headers = headers.ok_or("the message has no headers")?;
        let texts = |name| headers.get_all(name).map(HeaderValue::as_str);
        Ok(Self {
            event_id: required(headers, "ce-id")?,
            event_type: required(headers, "ce-type")?,
            subject: required(headers, "ce-subject")?,
            sequence: required(headers, "ce-sequence")?,
            correlation_id: required(headers, "ce-correlationid")?,
            causation_id: optional(headers, "ce-causationid")?,
            occurred_at: required(headers, "ce-time")?,
            trace: TraceContext::of_headers(texts("traceparent"), texts("tracestate")),
        })
    }

    /// An envelope for a message whose own cannot be read: what is readable of it, the rest from its place.
    ///
    /// It is the same on every redelivery, and without a subject it blocks nobody but itself.
    pub(crate) fn stand_in(headers: Option<&HeaderMap>, nats_subject: &str, place: &str) -> Self {
        let from_place = || Uuid::new_v5(&Uuid::NAMESPACE_URL, place.as_bytes());
        Self {
            event_id: readable(headers, "ce-id").unwrap_or_else(from_place),
            event_type: readable(headers, "ce-type").unwrap_or_else(|| nats_subject.to_owned()),
            subject: readable(headers, "ce-subject").unwrap_or_else(|| place.to_owned()),
            sequence: 0,
            correlation_id: readable(headers, "ce-correlationid").unwrap_or_default(),
            causation_id: None,
            occurred_at: DateTime::UNIX_EPOCH,
            trace: TraceContext::restore(headers.and_then(|headers| single(headers, "traceparent")), None),
        }
    }
}

/// Whether a header and an index of the database can hold the text, whoever wrote it.
pub(crate) fn is_plain(text: &str) -> bool {
    (1..=LONGEST_TEXT).contains(&text.len()) && !text.contains(char::is_control)
}

fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name);
    let first = values.next()?;
    values.next().is_none().then_some(first.as_str())
}

fn optional<T: FromStr>(headers: &HeaderMap, name: &str) -> Result<Option<T>, String> {
    let Some(value) = headers.get(name).map(HeaderValue::as_str) else {
        return Ok(None);
    };
    let parsed = is_plain(value).then(|| value.parse().ok()).flatten();
    parsed
        .map(Some)
        .ok_or_else(|| format!("the header {name} is malformed"))
}

fn readable<T: FromStr>(headers: Option<&HeaderMap>, name: &str) -> Option<T> {
    headers.and_then(|headers| optional(headers, name).ok().flatten())
}

fn required<T: FromStr>(headers: &HeaderMap, name: &str) -> Result<T, String> {
    optional(headers, name)?.ok_or_else(|| format!("the header {name} is missing"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn envelope() -> Envelope {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        Envelope {
            event_id: Uuid::now_v7(),
            event_type: "shop.order.OrderPlaced.v1".into(),
            subject: Uuid::now_v7().to_string(),
            sequence: 3,
            correlation_id: "order".into(),
            causation_id: Some(Uuid::now_v7()),
            occurred_at: DateTime::from_timestamp_micros(1_790_000_000_123_456).unwrap(),
            trace: TraceContext::parse(parent, Some("vendor=1")).unwrap(),
        }
    }

    #[test]
    fn an_envelope_survives_its_journey() {
        let sent = envelope();
        assert_eq!(Envelope::from_headers(Some(&sent.headers())).unwrap(), sent);
        assert_eq!((sent.name(), sent.producer()), ("OrderPlaced", "order"));
    }

    #[test]
    fn a_missing_header_is_named() {
        let mut headers = envelope().headers();
        headers.insert("ce-sequence", "three");
        assert_eq!(
            Envelope::from_headers(Some(&headers)).unwrap_err(),
            "the header ce-sequence is malformed"
        );
        assert!(Envelope::from_headers(None).unwrap_err().contains("no headers"));
    }

    #[test]
    fn a_doubled_or_garbled_traceparent_is_no_parent() {
        let mut headers = envelope().headers();
        headers.append("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert!(!Envelope::from_headers(Some(&headers)).unwrap().trace.is_valid());
        headers.insert("traceparent", "garbage");
        assert!(!Envelope::from_headers(Some(&headers)).unwrap().trace.is_valid());
    }

    #[test]
    fn a_stand_in_is_the_same_on_every_redelivery_and_blocks_nobody() {
        let headers = HeaderMap::from_iter([("ce-subject".parse().unwrap(), "a\0b".parse().unwrap())]);
        let stand_in = |place| Envelope::stand_in(Some(&headers), "shop.order.OrderPlaced", place);
        assert_eq!(stand_in("ORDER/7"), stand_in("ORDER/7"));
        assert_eq!(stand_in("ORDER/7").subject, "ORDER/7");
        assert_ne!(stand_in("ORDER/7").event_id, stand_in("ORDER/8").event_id);
    }

    proptest! {
        #[test]
        fn no_header_makes_us_panic(texts in prop::collection::vec("[^\r\n]*", 0..12), present in any::<u16>()) {
            let names = ["ce-id", "ce-type", "ce-subject", "ce-sequence", "ce-correlationid", "ce-causationid", "ce-time",
                         "traceparent", "tracestate"];
            let mut headers = envelope().headers();
            for (index, text) in texts.iter().enumerate() {
                let name = names[index % names.len()];
                if present & (1 << index) == 0 {
                    headers.append(name, text.as_str());
                } else {
                    headers.insert(name, text.as_str());
                }
            }
            if let Ok(read) = Envelope::from_headers(Some(&headers)) {
                prop_assert!(!read.subject.contains('\0') && !read.event_type.contains('\0'));
                prop_assert_eq!(Envelope::from_headers(Some(&read.headers())), Ok(read));
            }
            let stand_in = Envelope::stand_in(Some(&headers), "shop.order.OrderPlaced", "ORDER/1");
            prop_assert!(!stand_in.subject.contains('\0') && stand_in.subject.len() <= LONGEST_TEXT);
        }
    }
}
