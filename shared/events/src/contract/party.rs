//! A service as a party to the contract: what it sends and what it expects, and where two of them disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::reading::{Mismatch, Problem, mismatches};
use super::{catalogue, schema};
use crate::{EventType, Owner};

/// What one service sends and expects: schemas by label, `OrderPlaced.v1`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Contract {
    /// What it may tell.
    pub emits: BTreeMap<String, Value>,
    /// What it reacts to, earlier versions that it can lift included.
    pub accepts: BTreeMap<String, Value>,
}

/// Why two services cannot work together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who expects.
    pub reader: String,
    /// Who sends.
    pub writer: String,
    /// The event version, `OrderPlaced.v1`; the name alone when no version fits.
    pub event: String,
    /// What does not fit.
    pub reason: Reason,
}

/// What does not fit between two services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The content of a version.
    Content(Mismatch),
    /// No version is both sent and expected.
    Versions {
        /// What is expected, `v1`.
        expected: String,
        /// What is sent, `v2`.
        sent: String,
    },
}

impl Contract {
    /// The contract of a service by the schemas that it was built with: it may tell whatever is its own.
    pub fn of(owner: Option<Owner>, accepts: impl IntoIterator<Item = EventType>) -> Self {
        let own = catalogue().filter(|event| Some(event.event_type.owner) == owner);
        Self {
            emits: own.filter_map(|event| known(event.event_type)).collect(),
            accepts: accepts.into_iter().filter_map(known).collect(),
        }
    }

    /// Where the two cannot work together, whichever of them is the reader.
    pub fn conflicts(&self, name: &str, other: &Self, other_name: &str) -> Vec<Conflict> {
        let mut found = self.reading(name, other, other_name);
        found.extend(other.reading(other_name, self, name));
        found
    }

    fn reading(&self, reader: &str, sender: &Self, writer: &str) -> Vec<Conflict> {
        let conflict = |event: &str, reason| Conflict {
            reader: reader.to_owned(),
            writer: writer.to_owned(),
            event: event.to_owned(),
            reason,
        };
        let mut found = Vec::new();
        for (event, expected) in &self.accepts {
            if let Some(sent) = sender.emits.get(event) {
                let reasons = mismatches(expected, sent).into_iter().map(Reason::Content);
                found.extend(reasons.map(|reason| conflict(event, reason)));
            }
        }
        let expected = versions(&self.accepts);
        for (event, sent) in versions(&sender.emits) {
            if let Some(expected) = expected.get(event)
                && expected.is_disjoint(&sent)
            {
                let (expected, sent) = (listed(expected), listed(&sent));
                found.push(conflict(event, Reason::Versions { expected, sent }));
            }
        }
        found
    }
}

/// The committed schema of a version without what only people read; none for a type of a test.
fn known(event: EventType) -> Option<(String, Value)> {
    let label = event.label();
    let mut schema = serde_json::from_str(schema(&label)?).ok()?;
    strip(&mut schema);
    Some((label, schema))
}

fn strip(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            // A field may be called like a keyword, but then an object follows.
            keywords.retain(|name, value| name != "description" || value.is_object());
            keywords.values_mut().for_each(strip);
        }
        Value::Array(several) => several.iter_mut().for_each(strip),
        _ => {}
    }
}

fn versions(schemas: &BTreeMap<String, Value>) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (event, version) in schemas.keys().filter_map(|label| label.rsplit_once('.')) {
        versions.entry(event).or_default().insert(version);
    }
    versions
}

fn listed(versions: &BTreeSet<&str>) -> String {
    versions.iter().copied().collect::<Vec<_>>().join(" and ")
}

impl Conflict {
    /// The sentence with which a service refuses to start: "inventory cannot start: it requires …".
    pub fn refusal(&self, starting: &str) -> String {
        let Self {
            reader,
            writer,
            event,
            reason,
        } = self;
        let what = match reason {
            Reason::Content(mismatch) if starting == *reader => mismatch.to_reader(event, writer),
            Reason::Content(mismatch) => mismatch.to_writer(event, reader),
            Reason::Versions { expected, sent } if starting == *reader => {
                format!("it knows {event} as {expected} only, and {writer} sends {sent}")
            }
            Reason::Versions { expected, sent } => {
                format!("it sends {event} as {sent} only, and {reader} knows {expected}")
            }
        };
        format!("{starting} cannot start: {what}")
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.refusal(&self.reader))
    }
}

impl Mismatch {
    fn to_reader(&self, event: &str, writer: &str) -> String {
        let Self { field, problem } = self;
        match problem {
            Problem::Missing => format!("it requires `{field}` of {event}, which {writer} does not send"),
            Problem::MayBeMissing => format!("it requires `{field}` of {event}, which {writer} may leave out"),
            Problem::Unexpected => format!("it takes no `{field}` in {event}, which {writer} sends"),
            Problem::Type { expected, sent } => {
                format!("it expects `{field}` of {event} to be {expected}, and {writer} sends {sent}")
            }
            Problem::Value(value) => {
                format!("it does not know `{value}` as `{field}` of {event}, which {writer} sends")
            }
            Problem::Narrower(limit) => {
                format!("it expects {limit} of `{field}` in {event}, and {writer} keeps to no such")
            }
            Problem::Unclear(word) => format!("`{field}` of {event} uses `{word}`, and {writer} has it differently"),
        }
    }

    fn to_writer(&self, event: &str, reader: &str) -> String {
        let Self { field, problem } = self;
        match problem {
            Problem::Missing => format!("it does not send `{field}` of {event}, which {reader} requires"),
            Problem::MayBeMissing => format!("it may leave out `{field}` of {event}, which {reader} requires"),
            Problem::Unexpected => format!("it sends `{field}` in {event}, which {reader} does not take"),
            Problem::Type { expected, sent } => {
                format!("it sends {sent} as `{field}` of {event}, and {reader} expects {expected}")
            }
            Problem::Value(value) => {
                format!("it sends `{value}` as `{field}` of {event}, which {reader} does not know")
            }
            Problem::Narrower(limit) => {
                format!("it does not keep `{field}` of {event} to {limit}, as {reader} expects")
            }
            Problem::Unclear(word) => format!("`{field}` of {event} uses `{word}`, and {reader} has it differently"),
        }
    }
}
