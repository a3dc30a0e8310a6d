//! What a decision returns: the events that follow from it, or a fault.

use std::fmt;

use either::Either;
use uuid::Uuid;

use crate::{Event, EventType, Subject};

/// An event that was decided but is not yet in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Which event it is.
    pub event_type: EventType,
    /// What it is about.
    pub subject: Subject,
    /// Its content as JSON.
    pub payload: String,
    /// The event that it follows from, when that is another one than whoever asked knows of.
    pub cause: Option<Uuid>,
    /// Whether it tells the fact of the draft before it once more, in a later version.
    pub is_twin: bool,
}

impl Draft {
    /// Writes the event down as it will be published.
    pub fn of<E: Event>(event: &E) -> Result<Self, Fault> {
        let payload = serde_json::to_string(event).map_err(|error| Fault::new(format!("{}: {error}", E::TYPE)))?;
        Ok(Self {
            event_type: E::TYPE,
            subject: event.subject(),
            payload,
            cause: None,
            is_twin: false,
        })
    }
}

/// An event that cannot be handled, now or later: it goes to the dead letters, alone.
///
/// A reaction decides first and changes afterwards: when it returns a fault, it has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// A fault with the reason that an operator will read.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// What a decision may return; the type is the contract of what may be emitted.
pub trait Emits {
    /// The events as drafts, in the order in which they are to be told.
    fn into_drafts(self) -> Result<Vec<Draft>, Fault>;
    /// Every event that may come out.
    fn types() -> Vec<EventType>;
}

impl Emits for () {
    fn into_drafts(self) -> Result<Vec<Draft>, Fault> {
        Ok(Vec::new())
    }
    fn types() -> Vec<EventType> {
        Vec::new()
    }
}

impl<E: Event> Emits for E {
    fn into_drafts(self) -> Result<Vec<Draft>, Fault> {
        Ok(vec![Draft::of(&self)?])
    }
    fn types() -> Vec<EventType> {
        vec![E::TYPE]
    }
}

/// Events that were written down already; of which types cannot be told, so no reaction should return them.
impl Emits for Vec<Draft> {
    fn into_drafts(self) -> Result<Vec<Draft>, Fault> {
        Ok(self)
    }
    fn types() -> Vec<EventType> {
        Vec::new()
    }
}

impl<T: Emits> Emits for Option<T> {
    fn into_drafts(self) -> Result<Vec<Draft>, Fault> {
        self.map_or_else(|| Ok(Vec::new()), T::into_drafts)
    }
    fn types() -> Vec<EventType> {
        T::types()
    }
}

impl<T: Emits> Emits for Result<T, Fault> {
    fn into_drafts(self) -> Result<Vec<Draft>, Fault> {
        self?.into_drafts()
    }
    fn types() -> Vec<EventType> {
        T::types()
    }
}

/// Events that follow from this one: what an errand was taken for may no longer be why it is settled so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After<E>(pub Option<Uuid>, pub E);

impl<E: Emits> Emits for After<E> {
    fn into_drafts(self) -> Result<Vec<Draft>, Fault> {
        let mut drafts = self.1.into_drafts()?;
        drafts.iter_mut().for_each(|draft| draft.cause = self.0);
        Ok(drafts)
    }
    fn types() -> Vec<EventType> {
        E::types()
    }
}

/// One fact in two versions, told together for as long as somebody hears the older one only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Both<Old, New>(pub Old, pub New);

impl<Old: Event, New: Event> Emits for Both<Old, New> {
    fn into_drafts(self) -> Result<Vec<Draft>, Fault> {
        let (old, mut new) = (Draft::of(&self.0)?, Draft::of(&self.1)?);
        new.is_twin = true;
        let is_later = Old::TYPE.is_earlier_version_of(New::TYPE);
        if !is_later || old.subject != new.subject {
            let reason = format!("{} is no later version of the same fact as {}", New::TYPE, Old::TYPE);
            return Err(Fault::new(reason));
        }
        Ok(vec![old, new])
    }
    fn types() -> Vec<EventType> {
        vec![Old::TYPE, New::TYPE]
    }
}

impl<A: Emits, B: Emits> Emits for Either<A, B> {
    fn into_drafts(self) -> Result<Vec<Draft>, Fault> {
        self.either(A::into_drafts, B::into_drafts)
    }
    fn types() -> Vec<EventType> {
        [A::types(), B::types()].concat()
    }
}

impl<A: Emits, B: Emits> Emits for (A, B) {
    fn into_drafts(self) -> Result<Vec<Draft>, Fault> {
        let mut drafts = self.0.into_drafts()?;
        drafts.extend(self.1.into_drafts()?);
        Ok(drafts)
    }
    fn types() -> Vec<EventType> {
        [A::types(), B::types()].concat()
    }
}
