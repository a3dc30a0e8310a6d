//! Who hears what and may answer with what, read off the services themselves; and what was seen to follow.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use events::contract::catalogue;
use events::{EventType, Owner};
use messaging::{Reactions, WorkingSet};
use serde_json::Value;

use super::root;

/// A service by its wiring table.
pub(crate) struct Party {
    pub(crate) name: &'static str,
    /// What it hears, and what each reaction may emit.
    pub(crate) reactions: Vec<(EventType, Vec<EventType>)>,
}

pub(crate) struct Wiring {
    pub(crate) parties: Vec<Party>,
    /// The golden corpus by label.
    pub(crate) golden: BTreeMap<String, Vec<Value>>,
}

impl Wiring {
    pub(crate) fn read() -> Self {
        let parties = vec![
            party(&order::reactions::reactions()),
            party(&payment::reactions::reactions()),
            party(&inventory::reactions::reactions()),
            party(&warehouse::reactions::reactions()),
            party(&email::reactions::reactions()),
            party(&analytics::reactions::reactions()),
        ];
        let golden = catalogue().map(|event| {
            let label = event.event_type.label();
            let path = root().join(format!("shared/events/golden/{label}.json"));
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (label, serde_json::from_str(&text).unwrap())
        });
        Self {
            parties,
            golden: golden.collect(),
        }
    }

    /// The services that hear an event.
    pub(crate) fn heard_by(&self, event: EventType) -> Vec<&'static str> {
        let hears = |party: &&Party| party.reactions.iter().any(|(heard, _)| *heard == event);
        self.parties.iter().filter(hears).map(|party| party.name).collect()
    }

    /// The events after which a reaction may tell this one.
    pub(crate) fn answers(&self, event: EventType) -> Vec<EventType> {
        let of_owner = self.parties.iter().filter(|party| party.name == event.owner.name());
        let reactions = of_owner.flat_map(|party| &party.reactions);
        let telling = reactions.filter(|(_, emits)| emits.contains(&event));
        telling.map(|(heard, _)| *heard).collect()
    }

    /// The events that this one followed in the golden corpus; none for what was told unasked.
    pub(crate) fn seen_after(&self, event: EventType) -> BTreeSet<Option<String>> {
        let all = self
            .golden
            .iter()
            .flat_map(|(label, told)| told.iter().map(move |told| (label, told)));
        let by_id: BTreeMap<&str, &String> = all
            .filter_map(|(label, told)| Some((told["id"].as_str()?, label)))
            .collect();
        let told = self.golden[&event.label()].iter();
        told.filter_map(|told| match told["causationid"].as_str() {
            None => Some(None),
            // Half of a chain is no cause that can be named.
            Some(cause) => by_id.get(cause).map(|label| Some((*label).clone())),
        })
        .collect()
    }

    /// One line for each event, as `events::contract` reads them.
    pub(crate) fn consumers(&self) -> String {
        let line = |event: EventType| match self.heard_by(event).as_slice() {
            [] => format!("{}:\n", event.label()),
            names => format!("{}: {}\n", event.label(), names.join(" ")),
        };
        catalogue().map(|event| line(event.event_type)).collect()
    }
}

/// Every event of an owner.
pub(crate) fn of(owner: Owner) -> impl Iterator<Item = EventType> {
    catalogue()
        .map(|event| event.event_type)
        .filter(move |event| event.owner == owner)
}

fn party<W: WorkingSet>(reactions: &Reactions<W>) -> Party {
    let wiring = reactions.wiring().map(|(heard, emits)| {
        let mut emits = emits.to_vec();
        emits.sort();
        emits.dedup();
        (heard, emits)
    });
    Party {
        name: reactions.service(),
        reactions: wiring.collect(),
    }
}
