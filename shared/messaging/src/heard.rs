//! An event that was heard, with everything that can be known of it without the database.

use opentelemetry::KeyValue;
use telemetry::{Kind, Span, TraceContext, semconv};

use crate::dead_letters::Letter;
use crate::fault_points::afflict;
use crate::reactions::Prepared;
use crate::unit::{self, Decide, Job, Touched, Verdict};
use crate::{Db, Fault, Reactions, Trouble, WorkingSet};

/// An event that is ready to be reacted to, or to be buried.
pub(crate) struct Heard<W> {
    pub(crate) letter: Letter,
    pub(crate) prepared: Result<Prepared<W>, Fault>,
    pub(crate) span: Span,
}

impl<W: WorkingSet> Heard<W> {
    /// Decodes it and starts its span.
    pub(crate) fn of(reactions: &Reactions<W>, (mut letter, readable): (Letter, Result<(), Fault>)) -> Self {
        if reactions.reacts_to(&letter.envelope) {
            letter.envelope.event_id = letter.envelope.fact_id();
        }
        Self {
            span: process_span(reactions.service(), &letter),
            prepared: readable.and_then(|()| reactions.prepare(&letter.envelope, &letter.payload)),
            letter,
        }
    }

    /// The same for one that was handled before: its part of the trace is that of the whole batch.
    pub(crate) fn again(
        reactions: &Reactions<W>,
        (letter, readable): (Letter, Result<(), Fault>),
        batch: &TraceContext,
    ) -> Self {
        Self {
            span: Span::within(batch),
            prepared: readable.and_then(|()| reactions.prepare(&letter.envelope, &letter.payload)),
            letter,
        }
    }

    /// Commits the effects of all of them in one unit of work.
    pub(crate) async fn commit<'a>(
        db: &Db,
        consumer: &str,
        all: impl Iterator<Item = &'a mut Self>,
    ) -> Result<Vec<Verdict>, Trouble> {
        let nothing = Touched::default();
        let mut decides: Vec<Option<Box<Decide<'_, W>>>> = Vec::new();
        let mut about = Vec::new();
        for Self { letter, prepared, span } in all {
            let letter = &*letter;
            match prepared {
                Ok(Prepared { touched, react }) => {
                    about.push((letter, &*touched, span.context()));
                    decides.push(react.as_mut().map(|react| -> Box<Decide<'_, W>> {
                        Box::new(|known| {
                            afflict(&letter.envelope.subject);
                            react(known)
                        })
                    }));
                }
                Err(fault) => {
                    about.push((letter, &nothing, span.context()));
                    decides.push(Some(Box::new(|_| Err(fault.clone()))));
                }
            }
        }
        let jobs = decides.iter_mut().zip(about);
        let mut jobs: Vec<Job<'_, W>> = jobs
            .map(|(decide, (letter, touched, trace))| Job {
                touched,
                heard: Some(letter),
                cause: None,
                trace,
                decide: decide.as_mut().map(|decide| -> &mut Decide<'_, W> { decide }),
            })
            .collect();
        unit::commit(db, consumer, &mut jobs).await
    }
}

/// A child of the producing span, which it also links; a redelivery, or a redrive, is one more such span.
fn process_span(consumer: &'static str, letter: &Letter) -> Span {
    let envelope = &letter.envelope;
    let subject = letter.place.nats_subject.clone();
    Span::start_linked(
        Kind::Consumer,
        format!("process {subject}"),
        &envelope.trace,
        &[&envelope.trace],
        || {
            vec![
                KeyValue::new(semconv::MESSAGING_SYSTEM, "nats"),
                KeyValue::new(semconv::MESSAGING_OPERATION_NAME, "process"),
                KeyValue::new(semconv::MESSAGING_OPERATION_TYPE, "process"),
                KeyValue::new(semconv::MESSAGING_DESTINATION_NAME, subject),
                KeyValue::new(semconv::MESSAGING_CONSUMER_GROUP_NAME, consumer),
                KeyValue::new(semconv::MESSAGING_MESSAGE_ID, envelope.event_id.to_string()),
                KeyValue::new(semconv::MESSAGING_CONVERSATION_ID, envelope.subject.clone()),
                KeyValue::new(semconv::CLOUDEVENTS_EVENT_ID, envelope.event_id.to_string()),
                KeyValue::new(
                    semconv::CLOUDEVENTS_EVENT_SOURCE,
                    format!("/shop/{}", envelope.producer()),
                ),
                KeyValue::new(semconv::CLOUDEVENTS_EVENT_TYPE, envelope.event_type.clone()),
                KeyValue::new(semconv::MESSAGING_DELIVERY_COUNT, letter.attempts),
                KeyValue::new("shop.redriven", letter.redriven),
            ]
        },
    )
}
