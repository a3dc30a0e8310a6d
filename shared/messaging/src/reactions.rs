//! The wiring table of a service: which events it hears, and the pure function for each.

use std::collections::BTreeMap;

use events::{Event, EventType, Upcaster};

use crate::{Draft, Emits, Envelope, Fault, Touched, WorkingSet};

/// What a service does with the events it hears.
///
/// ```ignore
/// Reactions::of("inventory")
///     .on::<OrderPlaced>(reserve)
///     .on::<PaymentDeclined>(release)
/// ```
pub struct Reactions<W> {
    service: &'static str,
    table: BTreeMap<String, Reaction<W>>,
}

struct Reaction<W> {
    event_type: EventType,
    emits: Vec<EventType>,
    prepare: Box<Prepare<W>>,
}

type Prepare<W> = dyn Fn(&Envelope, &[u8]) -> Result<Prepared<W>, Fault> + Send + Sync;

/// A reaction with the event it is for.
type Bound<W> = dyn FnMut(&mut W) -> Result<Vec<Draft>, Fault> + Send + Sync;

/// An event that was decoded and only waits for what the service knows.
pub(crate) struct Prepared<W> {
    pub(crate) touched: Touched,
    /// None for what is only acknowledged.
    pub(crate) react: Option<Box<Bound<W>>>,
}

impl<W: WorkingSet> Reactions<W> {
    /// An empty table; the name is the durable consumer's and the inbox's.
    pub fn of(service: &'static str) -> Self {
        Self {
            service,
            table: BTreeMap::new(),
        }
    }

    /// Calls `react` with what the service knows and the event, earlier versions of it lifted.
    #[must_use]
    pub fn on<E: Event>(self, react: impl React<W, E>) -> Self {
        self.on_fact::<E>(FactOf(react))
    }

    /// The same for a reaction that also asks when, where and why the event was told.
    #[must_use]
    pub fn on_fact<E: Event>(mut self, react: impl ReactToFact<W, E>) -> Self {
        let emits = react.emits();
        let foreign = emits.iter().find(|event| event.owner.name() != self.service);
        assert!(
            foreign.is_none(),
            "{} may not emit {}",
            self.service,
            foreign.map_or_else(String::new, ToString::to_string)
        );
        for version in E::upcasters().into_iter().chain([Upcaster::none()]) {
            let event_type = version.from;
            let reaction = Reaction {
                event_type,
                emits: emits.clone(),
                prepare: prepare(version, react.clone()),
            };
            let before = self.table.insert(event_type.to_string(), reaction);
            assert!(before.is_none(), "{} reacts to {event_type} twice", self.service);
        }
        self
    }

    /// The service that reacts.
    pub fn service(&self) -> &'static str {
        self.service
    }

    /// What is consumed, and what may follow from each.
    pub fn wiring(&self) -> impl Iterator<Item = (EventType, &[EventType])> {
        self.table
            .values()
            .map(|reaction| (reaction.event_type, reaction.emits.as_slice()))
    }

    /// Reacts as the table says to an event that came in this envelope, without inbox or database.
    pub fn react(&self, known: &mut W, envelope: &Envelope, payload: &[u8]) -> Result<Vec<Draft>, Fault> {
        let react = self.prepare(envelope, payload)?.react;
        react.map_or_else(|| Ok(Vec::new()), |mut react| react(known))
    }

    /// Whether there is a reaction to this version of the event.
    pub(crate) fn reacts_to(&self, envelope: &Envelope) -> bool {
        self.table.contains_key(&envelope.event_type)
    }

    /// Decodes an event; the fault says why it cannot be.
    ///
    /// A later version than is known here is nothing to react to if its fact is told in an older version as well, which
    /// its id says. One that is told alone is a fault: nobody may miss it in silence.
    pub(crate) fn prepare(&self, envelope: &Envelope, payload: &[u8]) -> Result<Prepared<W>, Fault> {
        let is_known = |reaction: &Reaction<W>| reaction.event_type.subject() == envelope.nats_subject();
        match self.table.get(&envelope.event_type) {
            Some(reaction) => (reaction.prepare)(envelope, payload),
            None if events::is_twin(envelope.event_id) && self.table.values().any(is_known) => Ok(Prepared {
                touched: Touched::default(),
                react: None,
            }),
            None => Err(Fault::new(format!(
                "{} does not know {}",
                self.service, envelope.event_type
            ))),
        }
    }
}

fn prepare<W: WorkingSet, E: Event>(version: Upcaster<E>, react: impl ReactToFact<W, E>) -> Box<Prepare<W>> {
    Box::new(move |envelope, payload| {
        let event = (version.decode)(payload)
            .map_err(|error| Fault::new(format!("not a valid {}: {}", version.from, without_values(&error))))?;
        let touched = Touched::by(&event);
        let (react, envelope) = (react.clone(), envelope.clone());
        Ok(Prepared {
            touched,
            react: Some(Box::new(move |known: &mut W| react.react(known, &event, &envelope))),
        })
    })
}

/// What is wrong, without the quoted values: reasons are logged, and values may be somebody's address.
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let parts = text.split('"').enumerate();
    parts.map(|(at, part)| if at % 2 == 0 { part } else { "…" }).collect()
}

/// A pure function from what is known and an event to the events that follow.
pub trait React<W, E>: Clone + Send + Sync + 'static {
    /// Decides.
    fn react(&self, known: &mut W, event: &E) -> Result<Vec<Draft>, Fault>;
    /// What may come out.
    fn emits(&self) -> Vec<EventType>;
}

impl<W, E, R: Emits, F: Fn(&mut W, &E) -> R + Clone + Send + Sync + 'static> React<W, E> for F {
    fn react(&self, known: &mut W, event: &E) -> Result<Vec<Draft>, Fault> {
        self(known, event).into_drafts()
    }
    fn emits(&self) -> Vec<EventType> {
        R::types()
    }
}

/// The same with the envelope beside the event.
pub trait ReactToFact<W, E>: Clone + Send + Sync + 'static {
    /// Decides.
    fn react(&self, known: &mut W, event: &E, envelope: &Envelope) -> Result<Vec<Draft>, Fault>;
    /// What may come out.
    fn emits(&self) -> Vec<EventType>;
}

impl<W, E, R: Emits, F: Fn(&mut W, &E, &Envelope) -> R + Clone + Send + Sync + 'static> ReactToFact<W, E> for F {
    fn react(&self, known: &mut W, event: &E, envelope: &Envelope) -> Result<Vec<Draft>, Fault> {
        self(known, event, envelope).into_drafts()
    }
    fn emits(&self) -> Vec<EventType> {
        R::types()
    }
}

/// Turns a reaction that does not ask for the envelope into one that could.
#[derive(Clone)]
struct FactOf<F>(F);

impl<W, E, F: React<W, E>> ReactToFact<W, E> for FactOf<F> {
    fn react(&self, known: &mut W, event: &E, _envelope: &Envelope) -> Result<Vec<Draft>, Fault> {
        self.0.react(known, event)
    }
    fn emits(&self) -> Vec<EventType> {
        self.0.emits()
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use events::OrderPlaced;
    use proptest::prelude::*;
    use telemetry::TraceContext;
    use uuid::Uuid;

    use super::*;
    use crate::{Journal, Tx};

    struct Nothing;

    impl WorkingSet for Nothing {
        async fn load(_: &mut Tx, _: &Touched) -> sqlx::Result<Self> {
            Ok(Self)
        }
        async fn save(self, _: &mut Tx, _: &Journal) -> sqlx::Result<()> {
            Ok(())
        }
    }

    fn prepare(event_type: &str, payload: &[u8]) -> Result<Touched, Fault> {
        let envelope = Envelope {
            event_id: Uuid::nil(),
            event_type: event_type.into(),
            subject: "order".into(),
            sequence: 1,
            correlation_id: "order".into(),
            causation_id: None,
            occurred_at: DateTime::UNIX_EPOCH,
            trace: TraceContext::NONE,
        };
        let reactions = Reactions::of("inventory").on(|_: &mut Nothing, _: &OrderPlaced| ());
        reactions.prepare(&envelope, payload).map(|prepared| prepared.touched)
    }

    proptest! {
        #[test]
        fn no_content_makes_us_panic(payload in any::<Vec<u8>>(), event_type in ".*") {
            prop_assert!(prepare(&OrderPlaced::TYPE.to_string(), &payload).is_err());
            prop_assert!(prepare(&event_type, &payload).is_err());
        }

        #[test]
        fn no_json_makes_us_panic(json in r#"\{("(order_id|lines|total|currency|pay_by)":(-?[0-9]{1,20}|"[a-z0-9-]{0,40}"|\[\]|null),?){0,6}\}"#) {
            prop_assert!(prepare(&OrderPlaced::TYPE.to_string(), json.as_bytes()).is_err());
        }
    }
}
