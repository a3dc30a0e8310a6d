//! The W3C trace context, as it is written in HTTP headers, outbox rows and NATS headers.
//!
//! Source: <https://www.w3.org/TR/trace-context-2/>. The OpenTelemetry propagator accepts headers
//! that the recommendation refuses and refuses `tracestate` keys that it allows, so ours is strict
//! about `traceparent` and carries `tracestate` on untouched.

use std::fmt;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// Which trace something belongs to, and which span caused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: TraceId,
    span_id: SpanId,
    flags: TraceFlags,
    state: Option<String>,
}

/// A `traceparent` that the recommendation tells us to ignore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContextError;

impl fmt::Display for TraceContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a W3C traceparent")
    }
}

impl std::error::Error for TraceContextError {}

impl TraceContext {
    /// No trace at all: whatever starts from here starts a trace of its own.
    pub const NONE: Self = Self {
        trace_id: TraceId::INVALID,
        span_id: SpanId::INVALID,
        flags: TraceFlags::NOT_SAMPLED,
        state: None,
    };

    /// Reads the two headers; a malformed `tracestate` is dropped, a malformed `traceparent` is an error.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Result<Self, TraceContextError> {
        let (trace_id, span_id, flags) = parse_parent(traceparent).ok_or(TraceContextError)?;
        let state = tracestate
            .map(str::trim)
            .filter(|state| is_state(state))
            .map(str::to_owned);
        Ok(Self {
            trace_id,
            span_id,
            flags,
            state,
        })
    }

    /// The context in the headers of a request or a message: exactly one `traceparent` counts, and several
    /// `tracestate` are one list.
    pub fn of_headers<'a>(
        traceparents: impl IntoIterator<Item = &'a str>,
        tracestates: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut parents = traceparents.into_iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else {
            return Self::NONE;
        };
        let states: Vec<&str> = tracestates.into_iter().collect();
        Self::restore(Some(parent), Some(states.join(",").as_str()))
    }

    /// The context stored in a row or a header, or [`Self::NONE`] when it holds none that is valid.
    pub fn restore(traceparent: Option<&str>, tracestate: Option<&str>) -> Self {
        traceparent
            .and_then(|parent| Self::parse(parent, tracestate).ok())
            .unwrap_or(Self::NONE)
    }

    /// The `traceparent` header, or none when there is no trace.
    pub fn traceparent(&self) -> Option<String> {
        self.is_valid()
            .then(|| format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags.to_u8()))
    }

    /// The `tracestate` header, exactly as it came.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The trace id, 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        self.trace_id.to_string()
    }

    /// Whether it names a trace and a span.
    pub fn is_valid(&self) -> bool {
        self.trace_id != TraceId::INVALID && self.span_id != SpanId::INVALID
    }

    /// Whether its spans are recorded.
    pub fn is_sampled(&self) -> bool {
        self.is_valid() && self.flags.is_sampled()
    }

    /// The same as OpenTelemetry's type; its own `tracestate` stays empty, ours travels beside it.
    pub fn span_context(&self) -> SpanContext {
        SpanContext::new(self.trace_id, self.span_id, self.flags, true, TraceState::default())
    }

    pub(crate) fn of(span: &SpanContext, state: Option<String>, random: bool) -> Self {
        let random = if random { RANDOM } else { TraceFlags::NOT_SAMPLED };
        Self {
            trace_id: span.trace_id(),
            span_id: span.span_id(),
            flags: span.trace_flags() | random,
            state,
        }
    }

    /// Whether whoever began the trace chose its id at random (level 2).
    pub(crate) fn is_random(&self) -> bool {
        self.flags & RANDOM == RANDOM
    }
}

/// Bit 0 of the flags is "sampled", bit 1 is "random"; the others mean nothing yet and are not passed on.
const RANDOM: TraceFlags = TraceFlags::new(0x02);

/// Version `00` is exactly 55 bytes; a later version may only add after a further hyphen.
fn parse_parent(header: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let header = header.trim();
    let bytes = header.as_bytes();
    let known = header.get(..55)?;
    if bytes.len() > 55 && (known.starts_with("00") || bytes[55] != b'-') {
        return None;
    }
    let mut parts = known.split('-');
    let version = hex::<2>(parts.next()?)?;
    let trace_id = TraceId::from_hex(hex::<32>(parts.next()?)?).ok()?;
    let span_id = SpanId::from_hex(hex::<16>(parts.next()?)?).ok()?;
    let flags = u8::from_str_radix(hex::<2>(parts.next()?)?, 16).ok()?;
    let valid = version != "ff" && trace_id != TraceId::INVALID && span_id != SpanId::INVALID && parts.next().is_none();
    valid.then(|| (trace_id, span_id, TraceFlags::new(flags & 0x03)))
}

fn hex<const LENGTH: usize>(text: &str) -> Option<&str> {
    let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (lower && text.len() == LENGTH).then_some(text)
}

/// At most 32 members `key=value`; the whole list is dropped on any error. A key that comes twice is no error of the
/// grammar, and is carried on as it came.
fn is_state(state: &str) -> bool {
    let members = || state.split(',').map(str::trim).filter(|member| !member.is_empty());
    (1..=32).contains(&members().count()) && members().all(is_member)
}

fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else {
        return false;
    };
    let begins = key.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let key_ok = key
        .bytes()
        .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@'));
    let value_ok = value
        .bytes()
        .all(|b| matches!(b, 0x20..=0x2b | 0x2d..=0x3c | 0x3e..=0x7e));
    begins && key_ok && key.len() <= 256 && value_ok && !value.is_empty() && value.len() <= 256
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_was_read_is_written_again() {
        let context = TraceContext::parse(PARENT, Some("vendor=1,other@tenant=x")).unwrap();
        assert_eq!(context.traceparent().unwrap(), PARENT);
        assert_eq!(context.tracestate(), Some("vendor=1,other@tenant=x"));
        assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
    }

    #[test]
    fn the_random_flag_is_kept_and_unknown_flags_are_not() {
        let random = PARENT.replace("-01", "-03");
        assert_eq!(
            TraceContext::parse(&random, None).unwrap().traceparent().unwrap(),
            random
        );
        let unknown = PARENT.replace("-01", "-ff");
        assert_eq!(
            TraceContext::parse(&unknown, None).unwrap().traceparent().unwrap(),
            random
        );
    }

    #[test]
    fn malformed_parents_are_refused() {
        for bad in [
            "",
            "garbage",
            &PARENT[..54],
            &PARENT.replace("00-", "ff-"),
            &PARENT.replace("00-", "0-"),
            &PARENT.to_uppercase(),
            &PARENT.replace("b7ad6b7169203331", "0000000000000000"),
            &PARENT.replace("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            &format!("{PARENT}-extra"),
            &PARENT.replace('-', "_"),
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0é",
        ] {
            assert_eq!(TraceContext::parse(bad, None), Err(TraceContextError), "{bad}");
        }
    }

    #[test]
    fn a_later_version_may_add_fields_after_a_hyphen() {
        let later = PARENT.replacen("00", "cc", 1);
        assert!(TraceContext::parse(&format!("{later}-what-the-future-brings"), None).is_ok());
        assert!(TraceContext::parse(&format!("{later}.what"), None).is_err());
    }

    #[test]
    fn a_malformed_state_is_dropped_whole() {
        for bad in ["a", "a=", "A=1", "a=b=c", &"k=v,".repeat(33)] {
            assert_eq!(
                TraceContext::parse(PARENT, Some(bad)).unwrap().tracestate(),
                None,
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_us_panic(parent in ".*", state in ".*") {
            let restored = TraceContext::restore(Some(&parent), Some(&state));
            prop_assert_eq!(restored, TraceContext::NONE);
        }

        #[test]
        fn whatever_is_read_is_written_so_that_it_is_read_again(
            parent in "([0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.{0,4})?)|[0-9a-g-]{50,60}",
            state in "([a-z0-9@=,/ ]{0,20}|(k[0-9]=v,){0,40})",
        ) {
            if let Ok(context) = TraceContext::parse(&parent, Some(&state)) {
                let written = context.traceparent().unwrap();
                prop_assert_eq!(TraceContext::parse(&written, context.tracestate()), Ok(context));
            }
        }
    }
}
