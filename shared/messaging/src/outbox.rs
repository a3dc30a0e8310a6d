//! The outbox: events are written in the transaction that decided them, and published later.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use opentelemetry::KeyValue;
use sqlx::PgPool;
use telemetry::{Kind, Span, TraceContext, semconv};
use uuid::Uuid;

use crate::conformity::breach;
use crate::envelope::is_plain;
use crate::{Draft, Envelope, Tx};

/// How many partitions the outbox has; each is published by one relay at a time.
pub const LANES: i16 = 16;

/// The longest content of an event, in bytes: what the streams take, less ample room for headers.
const LARGEST_PAYLOAD: usize = 224 << 10;

/// An event on its way into the outbox.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) draft: Draft,
    /// The event it follows from.
    pub(crate) cause: Option<Uuid>,
    /// The span it follows from.
    pub(crate) parent: TraceContext,
}

impl Entry {
    /// Whether the broker can take it; if not, it must not get into the outbox, where it would block its lane.
    fn can_be_published(&self) -> bool {
        self.draft.payload.len() <= LARGEST_PAYLOAD && is_plain(&self.draft.subject.to_string())
    }
}

/// Writes the events in one statement and gives each its place in the sequence of its subject.
///
/// The row lock on `outbox_sequence` makes writers of one subject take turns until they commit, so
/// within a subject the order of ids is the order of commits.
pub(crate) async fn append(tx: &mut Tx, entries: Vec<Entry>) -> sqlx::Result<Vec<Envelope>> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(Entry { draft, .. }) = entries.iter().find(|entry| !entry.can_be_published()) {
        let refusal = format!(
            "{} cannot be published: too large, or a strange subject",
            draft.event_type
        );
        return Err(sqlx::Error::InvalidArgument(refusal));
    }
    if cfg!(debug_assertions)
        && let Some(refusal) = entries.iter().find_map(|entry| breach(&entry.draft))
    {
        return Err(sqlx::Error::InvalidArgument(refusal));
    }
    let rows = Columns::of(entries);
    let placed = sqlx::query!(
        r#"
        with fresh as (
            select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[],
                                 $8::text[]) with ordinality
            as t (event_id, event_type, nats_subject, subject, causation_id, traceparent, tracestate, payload, position)
        ), counted as (
            insert into outbox_sequence as known (subject, sequence)
            select subject, count(*) from fresh group by subject order by subject
            on conflict (subject) do update set sequence = known.sequence + excluded.sequence
            returning subject, sequence
        )
        insert into outbox (lane, event_id, event_type, nats_subject, subject, sequence, correlation_id, causation_id,
                            traceparent, tracestate, payload)
        select (hashtext(subject) & ($9::int - 1))::smallint, event_id, event_type, nats_subject, subject,
               counted.sequence - count(*) over (partition by subject)
                                + row_number() over (partition by subject order by position),
               subject, causation_id, traceparent, tracestate, payload
        from fresh join counted using (subject)
        order by position
        returning event_id, sequence, occurred_at
        "#,
        &rows.event_ids,
        &rows.event_types,
        &rows.nats_subjects,
        &rows.subjects,
        &rows.causes as &[Option<Uuid>],
        &rows.traceparents as &[Option<String>],
        &rows.tracestates as &[Option<String>],
        &rows.payloads,
        i32::from(LANES),
    )
    .fetch_all(&mut **tx)
    .await?;
    let placed = placed
        .into_iter()
        .map(|row| (row.event_id, (row.sequence, row.occurred_at)))
        .collect();
    Ok(rows.envelopes(&placed))
}

/// The entries turned on their side, as `unnest` wants them.
#[derive(Default)]
struct Columns {
    event_ids: Vec<Uuid>,
    event_types: Vec<String>,
    nats_subjects: Vec<String>,
    subjects: Vec<String>,
    causes: Vec<Option<Uuid>>,
    traceparents: Vec<Option<String>>,
    tracestates: Vec<Option<String>>,
    payloads: Vec<String>,
    traces: Vec<TraceContext>,
}

impl Columns {
    fn of(entries: Vec<Entry>) -> Self {
        let mut columns = Self::default();
        let mut fact = Uuid::nil();
        for Entry { draft, cause, parent } in entries {
            let event_id = if draft.is_twin {
                events::twin_id(fact, draft.event_type.version)
            } else {
                fact = Uuid::now_v7();
                fact
            };
            let trace = creation_span(&draft, event_id, &parent).context();
            columns.event_ids.push(event_id);
            columns.event_types.push(draft.event_type.to_string());
            columns.nats_subjects.push(draft.event_type.subject());
            columns.subjects.push(draft.subject.to_string());
            columns.causes.push(cause);
            columns.traceparents.push(trace.traceparent());
            columns.tracestates.push(trace.tracestate().map(str::to_owned));
            columns.payloads.push(draft.payload);
            columns.traces.push(trace);
        }
        columns
    }

    /// The envelopes in the order of the entries, with what the database added.
    fn envelopes(self, placed: &HashMap<Uuid, (i64, DateTime<Utc>)>) -> Vec<Envelope> {
        let Self {
            event_ids,
            event_types,
            subjects,
            causes,
            traces,
            ..
        } = self;
        let columns = event_ids
            .into_iter()
            .zip(event_types)
            .zip(subjects)
            .zip(causes)
            .zip(traces);
        let envelope = |((((event_id, event_type), subject), causation_id), trace)| {
            let (sequence, occurred_at) = *placed.get(&event_id)?;
            let correlation_id: String = String::clone(&subject);
            Some(Envelope {
                event_id,
                event_type,
                subject,
                sequence,
                correlation_id,
                causation_id,
                occurred_at,
                trace,
            })
        };
        columns.filter_map(envelope).collect()
    }
}

/// The producing span: its context travels in the row, so the trace survives until the event is published.
fn creation_span(draft: &Draft, event_id: Uuid, parent: &TraceContext) -> Span {
    let subject = draft.event_type.subject();
    Span::start(Kind::Producer, format!("create {subject}"), parent, || {
        vec![
            KeyValue::new(semconv::MESSAGING_SYSTEM, "nats"),
            KeyValue::new(semconv::MESSAGING_OPERATION_NAME, "create"),
            KeyValue::new(semconv::MESSAGING_OPERATION_TYPE, "create"),
            KeyValue::new(semconv::MESSAGING_DESTINATION_NAME, subject.clone()),
            KeyValue::new(semconv::MESSAGING_MESSAGE_ID, event_id.to_string()),
            KeyValue::new(semconv::MESSAGING_CONVERSATION_ID, draft.subject.to_string()),
            KeyValue::new(semconv::CLOUDEVENTS_EVENT_ID, event_id.to_string()),
            KeyValue::new(
                semconv::CLOUDEVENTS_EVENT_SOURCE,
                format!("/shop/{}", draft.event_type.owner.name()),
            ),
            KeyValue::new(semconv::CLOUDEVENTS_EVENT_TYPE, draft.event_type.to_string()),
        ]
    })
}

/// How far the broker is behind: depth in events (counted up to 10,000) and the age of the oldest in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Backlog {
    /// Events that wait.
    pub depth: i64,
    /// Age of the one that waits longest, in milliseconds; 0 when none waits.
    pub oldest_ms: i64,
}

/// Measures the outbox without ever counting far.
pub async fn backlog(pool: &PgPool) -> sqlx::Result<Backlog> {
    let row = sqlx::query!(
        r#"
        select (select count(*) from (select from outbox limit 10000) as waiting) as "depth!",
               coalesce((select extract(epoch from clock_timestamp() - occurred_at) * 1000
                         from outbox order by id limit 1), 0)::bigint as "oldest_ms!"
        "#
    )
    .fetch_one(pool)
    .await?;
    Ok(Backlog {
        depth: row.depth,
        oldest_ms: row.oldest_ms,
    })
}
