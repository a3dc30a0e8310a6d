//! The committed schemas, the golden corpus and today's types say the same.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use events::contract::{self, catalogue};
use serde_json::Value;

fn here(folder: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// The JSON files of a folder by label.
fn files(folder: &str) -> BTreeMap<String, Value> {
    let entries = fs::read_dir(here(folder)).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| {
        let label = path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned();
        Some((label, serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()))
    };
    entries.filter_map(read).collect()
}

fn labels() -> BTreeSet<String> {
    catalogue().map(|event| event.event_type.label()).collect()
}

/// Row 22: the gate. Whatever a type says that its published schema does not is either renewed or refused.
#[test]
fn types_and_committed_schemas_agree() {
    let committed = files("schemas");
    let mut complaints = Vec::new();
    for event in catalogue() {
        let (label, today) = (event.event_type.label(), (event.schema)());
        match committed.get(&label) {
            Some(old) if *old == today => continue,
            Some(old) => {
                let found = contract::changes(old, &today);
                let refused = found.iter().filter(|change| !change.is_allowed());
                complaints.extend(refused.map(|change| change.sentence(&label, &contract::consumers(&label))));
            }
            None => {}
        }
        complaints.push(format!(
            "{label} is out of date: cargo shop schemas write renews it, if it may"
        ));
    }
    let gone = committed.keys().filter(|label| !labels().contains(*label));
    complaints.extend(gone.map(|label| format!("{label} has been published, so its type has to stay")));
    assert!(complaints.is_empty(), "\n  {}", complaints.join("\n  "));
}

#[test]
fn every_schema_is_compiled_in_as_it_is_committed() {
    let compiled: BTreeMap<String, Value> = contract::committed()
        .map(|(label, text)| (label.to_owned(), serde_json::from_str(text).unwrap()))
        .collect();
    assert_eq!(compiled, files("schemas"));
    assert!(contract::committed().is_sorted());
}

#[test]
fn no_event_is_missing_in_the_catalogue() {
    let mut declared = BTreeSet::new();
    for entry in fs::read_dir(here("src")).unwrap() {
        let Ok(source) = fs::read_to_string(entry.unwrap().path()) else {
            continue;
        };
        let lines = source.lines().filter_map(|line| line.strip_prefix("event!("));
        declared.extend(lines.map(|line| line.split(',').next().unwrap().to_owned()));
    }
    let known: BTreeSet<String> = catalogue().map(|event| event.event_type.name.to_owned()).collect();
    let missing: Vec<_> = declared.difference(&known).collect();
    assert!(
        declared.len() > 25 && missing.is_empty(),
        "not in EVENTS of their module: {missing:?}"
    );
}

/// Row 22: whatever was ever told can be read by today's types, and says what it said.
#[test]
fn every_golden_event_decodes_and_follows_its_schema() {
    let golden = files("golden");
    assert_eq!(
        golden.keys().cloned().collect::<BTreeSet<_>>(),
        labels(),
        "one file for every version"
    );
    for event in catalogue() {
        let label = event.event_type.label();
        let schema = serde_json::from_str(contract::schema(&label).unwrap()).unwrap();
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap();
        let told = golden[&label].as_array().unwrap();
        assert!(!told.is_empty(), "{label} has no event");
        for told in told {
            assert_eq!(told["type"], event.event_type.to_string());
            let breaches: Vec<_> = validator
                .iter_errors(&told["data"])
                .map(|error| error.to_string())
                .collect();
            assert!(breaches.is_empty(), "{label}: {breaches:?}");
            let again = (event.decode)(&told["data"]).unwrap_or_else(|error| panic!("{label}: {error}"));
            assert!(says_all_of(&again, &told["data"]), "{label} loses something: {again}");
        }
    }
}

/// Fields that came later may be there as well.
fn says_all_of(now: &Value, then: &Value) -> bool {
    match (now, then) {
        (Value::Object(now), Value::Object(then)) => then
            .iter()
            .all(|(name, then)| now.get(name).is_some_and(|now| says_all_of(now, then))),
        (Value::Array(now), Value::Array(then)) => {
            now.len() == then.len() && now.iter().zip(then).all(|(now, then)| says_all_of(now, then))
        }
        (now, then) => now == then || (is_time(then) && is_time(now)),
    }
}

/// The same moment may be written with or without a fraction of a second.
fn is_time(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| chrono::DateTime::parse_from_rfc3339(text).is_ok())
}
