//! A span as tests look at it.

use std::collections::BTreeMap;
use std::fmt;

/// One operation of one service, as it was exported.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// The span this one is part of; absent at the root.
    pub parent_id: Option<String>,
    /// `service.name` of the resource.
    pub service: String,
    /// What was done.
    pub name: String,
    /// Which side of a call or a message it is.
    pub kind: Kind,
    /// Nanoseconds since 1970.
    pub start: u64,
    /// Nanoseconds since 1970.
    pub end: u64,
    /// Attributes; numbers and booleans in their usual spelling, lists as JSON.
    pub attributes: BTreeMap<String, String>,
    /// Trace id and span id of every linked span.
    pub links: Vec<(String, String)>,
    /// How it ended.
    pub status: Status,
    /// What happened on the way.
    pub events: Vec<Event>,
    /// Name of the instrumentation that made the span.
    pub scope: String,
    /// Attributes of the process.
    pub resource: BTreeMap<String, String>,
}

impl Span {
    /// Whether it ended in an error.
    pub fn is_error(&self) -> bool {
        matches!(self.status, Status::Error(_))
    }
}

/// A moment within a span.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What happened.
    pub name: String,
    /// Nanoseconds since 1970.
    pub at: u64,
    /// Attributes, as those of the span.
    pub attributes: BTreeMap<String, String>,
}

/// How a span ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// The instrumentation did not say.
    Unset,
    /// Declared a success.
    Ok,
    /// Failed, for this reason.
    Error(String),
}

/// Which side of a call or a message a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Work within the service; also what did not say.
    Internal,
    /// Answers a request.
    Server,
    /// Makes a request.
    Client,
    /// Creates or sends a message.
    Producer,
    /// Receives or processes a message.
    Consumer,
}

impl Kind {
    /// The lower-case name, as in the tag `span.kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
