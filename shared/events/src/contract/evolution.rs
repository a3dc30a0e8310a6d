//! What a change of a schema does to those who live with both: a change is allowed if consumers built
//! before it can read what is told after it, and the other way round, and no field goes away.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::reading::{Mismatch, Problem, mismatches};
use super::shape::Shape;

/// One difference between two forms of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where, `lines[].quantity`.
    pub field: String,
    /// What was done there.
    pub what: What,
    /// Consumers built before the change cannot read what is told after it.
    pub breaks_old_consumers: bool,
    /// Consumers built after the change cannot read what was told before it.
    pub breaks_new_consumers: bool,
}

/// What was done to a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A field that may be left out is new.
    Added,
    /// A field that is always there is new.
    AddedRequired,
    /// A field is gone.
    Removed,
    /// It has another name now.
    RenamedTo(String),
    /// It was optional and is required.
    MadeRequired,
    /// It was required and is optional.
    MadeOptional,
    /// It is of another type.
    Retyped(String, String),
    /// A value is new in a list of values.
    ValueAdded(String),
    /// A value is gone from a list of values.
    ValueRemoved(String),
    /// It is narrower than it was, by this limit.
    Narrowed(String),
    /// It is wider than it was, by this limit.
    Widened(String),
    /// It uses what the checker does not understand.
    Unclear(String),
}

impl Change {
    /// Whether it may be made within a version.
    pub fn is_allowed(&self) -> bool {
        !self.breaks_old_consumers && !self.breaks_new_consumers
    }

    /// The change and whom it breaks: "removing `customer` from OrderPlaced.v1 breaks inventory, email".
    pub fn sentence(&self, event: &str, consumers: &[&str]) -> String {
        if self.is_allowed() {
            return format!("{self} {event}");
        }
        let whom = match consumers {
            [] => "whoever hears it".to_owned(),
            names => names.join(", "),
        };
        let because = match (self.breaks_old_consumers, self.breaks_new_consumers, &self.what) {
            (_, _, What::Removed | What::RenamedTo(_)) => "",
            (true, true, _) => ", before and after they are built with it",
            (true, false, _) => ", as long as they are built without it",
            (false, _, _) => ", which still meet events from before it",
        };
        format!("{self} {event} breaks {whom}{because}")
    }
}

/// The change as the beginning of a sentence that ends with the event.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = &self.field;
        match &self.what {
            What::Added => write!(f, "adding the optional field `{field}` to"),
            What::AddedRequired => write!(f, "adding the required field `{field}` to"),
            What::Removed => write!(f, "removing `{field}` from"),
            What::RenamedTo(name) => write!(f, "renaming `{field}` to `{name}` in"),
            What::MadeRequired => write!(f, "making `{field}` required in"),
            What::MadeOptional => write!(f, "making `{field}` optional in"),
            What::Retyped(old, new) => write!(f, "changing `{field}` from {old} to {new} in"),
            What::ValueAdded(value) => write!(f, "adding the value `{value}` to `{field}` of"),
            What::ValueRemoved(value) => write!(f, "removing the value `{value}` from `{field}` of"),
            What::Narrowed(limit) => write!(f, "narrowing `{field}` to {limit} in"),
            What::Widened(limit) => write!(f, "freeing `{field}` from {limit} in"),
            What::Unclear(keyword) => write!(f, "changing `{field}`, which uses `{keyword}`, in"),
        }
    }
}

/// Every difference between the schema as it was published and as it is now; none when they say the same.
pub fn changes(old: &Value, new: &Value) -> Vec<Change> {
    let mut found: BTreeMap<String, Vec<Change>> = BTreeMap::new();
    for (field, required) in Fields::of(new).missing_in(&Fields::of(old)) {
        let what = if required { What::AddedRequired } else { What::Added };
        note(&mut found, field, what, false, required);
    }
    for (field, _) in Fields::of(old).missing_in(&Fields::of(new)) {
        note(&mut found, field, What::Removed, true, false);
    }
    for Mismatch { field, problem } in mismatches(old, new) {
        note(&mut found, field, after(problem), true, false);
    }
    for Mismatch { field, problem } in mismatches(new, old) {
        note(&mut found, field, before(problem), false, true);
    }
    name_renamings(found.into_values().flatten().collect(), old, new)
}

/// What a consumer built before the change meets.
fn after(problem: Problem) -> What {
    match problem {
        Problem::Missing => What::Removed,
        Problem::MayBeMissing => What::MadeOptional,
        Problem::Unexpected => What::Added,
        Problem::Type { expected, sent } => What::Retyped(expected, sent),
        Problem::Value(value) => What::ValueAdded(value),
        Problem::Narrower(limit) => What::Widened(limit),
        Problem::Unclear(keyword) => What::Unclear(keyword),
    }
}

/// What a consumer built after the change meets in an event from before it.
fn before(problem: Problem) -> What {
    match problem {
        Problem::Missing => What::AddedRequired,
        Problem::MayBeMissing => What::MadeRequired,
        Problem::Unexpected => What::Removed,
        Problem::Type { expected, sent } => What::Retyped(sent, expected),
        Problem::Value(value) => What::ValueRemoved(value),
        Problem::Narrower(limit) => What::Narrowed(limit),
        Problem::Unclear(keyword) => What::Unclear(keyword),
    }
}

/// One change a field and kind, whichever of the comparisons found it.
fn note(found: &mut BTreeMap<String, Vec<Change>>, field: String, what: What, old: bool, new: bool) {
    let of_field = found.entry(field.clone()).or_default();
    let same = of_field.iter_mut().find(|change| change.what == what);
    match same {
        Some(change) => {
            change.breaks_old_consumers |= old;
            change.breaks_new_consumers |= new;
        }
        None => of_field.push(Change {
            field,
            what,
            breaks_old_consumers: old,
            breaks_new_consumers: new,
        }),
    }
}

/// A field that went and one of the same content that came beside it are one that was renamed.
fn name_renamings(mut changes: Vec<Change>, old: &Value, new: &Value) -> Vec<Change> {
    let (before, after) = (Fields::of(old), Fields::of(new));
    let parent = |field: &str| field.rsplit_once('.').map(|(parent, _)| parent.to_owned());
    let is_gone = |change: &Change| change.what == What::Removed;
    let is_new = |change: &Change| matches!(change.what, What::Added | What::AddedRequired);
    let gone: Vec<String> = changes.iter().filter(|c| is_gone(c)).map(|c| c.field.clone()).collect();
    for gone in gone {
        let twin = changes.iter().position(|change| {
            is_new(change)
                && parent(&change.field) == parent(&gone)
                && after.shape(&change.field) == before.shape(&gone)
        });
        if let Some(twin) = twin {
            let name = changes.remove(twin).field;
            let renamed = changes
                .iter_mut()
                .find(|change| is_gone(change) && change.field == gone);
            renamed.into_iter().for_each(|change| {
                change.what = What::RenamedTo(name.clone());
                change.breaks_new_consumers = true;
            });
        }
    }
    changes
}

/// Every named field of a schema, at any depth: its schema, and whether it is required.
struct Fields(BTreeMap<String, (Value, bool)>);

impl Fields {
    fn of(schema: &Value) -> Self {
        let mut all = BTreeMap::new();
        collect("", schema, &mut all);
        Self(all)
    }

    fn shape(&self, field: &str) -> Option<Shape> {
        self.0.get(field).map(|(schema, _)| Shape::of(schema))
    }

    /// Those that the other does not have, the outermost only.
    fn missing_in(&self, other: &Self) -> Vec<(String, bool)> {
        let missing = self.0.iter().filter(|(field, _)| !other.0.contains_key(*field));
        let known = |field: &str| other.0.contains_key(field) || field.is_empty();
        let outermost = missing.filter(|(field, _)| {
            let parent = field.rsplit_once('.').map_or("", |(parent, _)| parent);
            known(parent.trim_end_matches("[]"))
        });
        outermost
            .map(|(field, (_, required))| (field.clone(), *required))
            .collect()
    }
}

fn collect(field: &str, schema: &Value, all: &mut BTreeMap<String, (Value, bool)>) {
    let shape = Shape::of(schema);
    for (name, inner) in &shape.fields {
        let inside = if field.is_empty() {
            name.clone()
        } else {
            format!("{field}.{name}")
        };
        collect(&inside, inner, all);
        all.insert(inside, (inner.clone(), shape.required.contains(name)));
    }
    if let Some(items) = &shape.items {
        collect(&format!("{field}[]"), items, all);
    }
}
