//! The contract between those who tell events and those who hear them, as JSON Schemas.
//!
//! The schema of every event version that was ever published is committed in `schemas/` and compiled
//! in. `docs/contract.md` says what may change within a version.

mod evolution;
mod party;
mod reading;
mod shape;

use schemars::generate::SchemaSettings;
use serde_json::Value;

pub use evolution::{Change, What, changes};
pub use party::{Conflict, Contract};
pub use reading::{Mismatch, Problem, mismatches};

use crate::{Event, EventType};

include!(concat!(env!("OUT_DIR"), "/schemas.rs"));

/// The committed schemas as text by label, `OrderPlaced.v1`.
pub fn committed() -> impl Iterator<Item = (&'static str, &'static str)> {
    COMMITTED.iter().copied()
}

/// The committed schema of an event version; none for one that was never published.
pub fn schema(label: &str) -> Option<&'static str> {
    let found = COMMITTED.binary_search_by_key(&label, |(label, _)| *label).ok()?;
    Some(COMMITTED[found].1)
}

/// The services that hear an event version, by its label; written down from the wiring tables.
pub fn consumers(label: &str) -> Vec<&'static str> {
    let all: Vec<(&'static str, Vec<&'static str>)> = CONSUMERS.lines().filter_map(heard_by).collect();
    let of_event = all.into_iter().find(|(event, _)| *event == label);
    of_event.map_or_else(Vec::new, |(_, consumers)| consumers)
}

const CONSUMERS: &str = include_str!("../consumers.txt");

fn heard_by(line: &'static str) -> Option<(&'static str, Vec<&'static str>)> {
    let (event, consumers) = line.split_once(':')?;
    Some((event, consumers.split_whitespace().collect()))
}

/// The schema of a type as it is today: no references, so that each stands for itself.
pub fn schema_of<E: Event + schemars::JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<E>();
    schema.insert("title".into(), E::TYPE.label().into());
    schema.insert("$id".into(), E::TYPE.schema_id().into());
    schema.to_value()
}

/// A schema as it is committed.
pub fn written(schema: &Value) -> String {
    format!("{schema:#}\n")
}

/// An event version as it was published: what can be done with it without naming its type.
pub struct Published {
    /// Which one.
    pub event_type: EventType,
    /// Its schema, from the type.
    pub schema: fn() -> Value,
    /// Decodes a content, and encodes it again.
    pub decode: fn(&Value) -> serde_json::Result<Value>,
}

/// Lists events: `published![OrderPlaced, OrderConfirmed]`.
macro_rules! published {
    ($($event:ident),* $(,)?) => {
        &[$($crate::contract::Published {
            event_type: <$event as $crate::Event>::TYPE,
            schema: $crate::contract::schema_of::<$event>,
            decode: |content| serde_json::to_value(<$event as serde::Deserialize>::deserialize(content)?),
        }),*]
    };
}
pub(crate) use published;

/// Every event version that may be told, owner by owner.
pub fn catalogue() -> impl Iterator<Item = &'static Published> {
    let owners = [
        crate::order::EVENTS,
        crate::inventory::EVENTS,
        crate::payment::EVENTS,
        crate::warehouse::EVENTS,
        crate::notification::EVENTS,
    ];
    owners.into_iter().flatten()
}
