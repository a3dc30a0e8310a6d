//! Spans of messages, which begin and end apart from any call stack.

use std::time::SystemTime;

use opentelemetry::trace::{Link, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue, global};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::TraceContext;

const SCOPE: &str = "tidings";

/// Who asks whom, in OpenTelemetry's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work inside one service.
    Internal,
    /// A request that waits for its answer.
    Client,
    /// A message is made.
    Producer,
    /// A message is handled.
    Consumer,
}

impl From<Kind> for SpanKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Internal => Self::Internal,
            Kind::Client => Self::Client,
            Kind::Producer => Self::Producer,
            Kind::Consumer => Self::Consumer,
        }
    }
}

/// A span that ends when it is dropped.
#[derive(Debug)]
pub struct Span {
    context: Context,
    beside: Beside,
}

impl Span {
    /// Starts a child of `parent`, or a trace of its own when `parent` is none.
    ///
    /// `attributes` are asked for only when the span is recorded.
    pub fn start(kind: Kind, name: String, parent: &TraceContext, attributes: impl FnOnce() -> Vec<KeyValue>) -> Self {
        Self::start_linked(kind, name, parent, &[], attributes)
    }

    /// Starts a span that also points at others that it does not descend from.
    pub fn start_linked(
        kind: Kind,
        name: String,
        parent: &TraceContext,
        links: &[&TraceContext],
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Self {
        let tracer = global::tracer_provider().tracer(SCOPE);
        // A fresh context: the surrounding loop's own span must never become the parent.
        let remote = if parent.is_valid() {
            Context::new().with_remote_span_context(parent.span_context())
        } else {
            Context::new()
        };
        let links = links.iter().filter(|link| link.is_valid());
        let links = links
            .map(|link| Link::new(link.span_context(), Vec::new(), 0))
            .collect();
        let span = tracer.span_builder(name).with_kind(kind.into()).with_links(links);
        let span = span.start_with_context(&tracer, &remote);
        let context = remote.with_span(span);
        if context.span().is_recording() {
            context.span().set_attributes(attributes());
        }
        Self {
            context,
            beside: Beside::of(parent),
        }
    }

    /// Stands for a span that somebody else records: its children are children of that one.
    pub fn within(recorded: &TraceContext) -> Self {
        Self {
            context: Context::new().with_remote_span_context(recorded.span_context()),
            beside: Beside::of(recorded),
        }
    }

    /// What the span's children are told.
    pub fn context(&self) -> TraceContext {
        self.beside.clone().with(&self.context)
    }

    /// Adds what is known only now.
    pub fn set(&self, attribute: KeyValue) {
        self.context.span().set_attribute(attribute);
    }

    /// Marks the span as failed; `error_type` is one of a few words, never a message with ids in it.
    pub fn fail(&self, error_type: &'static str) {
        self.context
            .span()
            .set_attribute(KeyValue::new("error.type", error_type));
        self.context.span().set_status(Status::error(error_type));
    }

    /// Ends it now.
    pub fn end(self) {
        self.context.span().end_with_timestamp(SystemTime::now());
    }
}

/// The trace context of the `tracing` span that this code runs in.
pub fn current() -> TraceContext {
    let context = tracing::Span::current().context();
    let beside = context.get::<Beside>().cloned();
    beside.unwrap_or(Beside::of(&TraceContext::NONE)).with(&context)
}

/// Makes a `tracing` span the child of what came from elsewhere; to be called before it is entered.
pub fn follow(span: &tracing::Span, parent: &TraceContext) {
    if !parent.is_valid() {
        return;
    }
    let remote = Context::new().with_remote_span_context(parent.span_context());
    let context = remote.with_value(Beside::of(parent));
    // Fails only for a span without an OpenTelemetry layer, where there is no trace to join.
    let _ = span.set_parent(context);
}

/// Points the `tracing` span that this code runs in at another trace, of which it is no part.
pub fn link(other: &TraceContext) {
    if other.is_valid() {
        tracing::Span::current().add_link(other.span_context());
    }
}

/// What OpenTelemetry's own types do not carry on: the `tracestate` as it came, of which they refuse legal keys, and
/// whether the trace id is random, which they forget.
#[derive(Debug, Clone)]
struct Beside {
    state: Option<String>,
    random: bool,
}

impl Beside {
    /// What a child of this context inherits; trace ids of our own are random in all their bits.
    fn of(parent: &TraceContext) -> Self {
        Self {
            state: parent.tracestate().map(str::to_owned),
            random: !parent.is_valid() || parent.is_random(),
        }
    }

    fn with(self, context: &Context) -> TraceContext {
        TraceContext::of(context.span().span_context(), self.state, self.random)
    }
}
