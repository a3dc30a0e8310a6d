//! The documents of the event contract: generated from the wiring tables, the schemas and the golden corpus, and
//! compared with what is committed. `cargo shop docs` writes them.
#![allow(clippy::unwrap_used)]

mod asyncapi;
mod map;
mod parser;
mod wiring;
mod yaml;

use std::fs;
use std::path::{Path, PathBuf};

use wiring::Wiring;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Compares a document with its file, or writes it when `UPDATE_DOCS` is 1.
fn agrees(path: &str, document: &str) {
    let file = root().join(path);
    if std::env::var("UPDATE_DOCS").is_ok_and(|wish| wish == "1") {
        fs::write(&file, document).unwrap();
        return;
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    let differs = committed
        .lines()
        .zip(document.lines())
        .position(|(old, new)| old != new);
    assert!(
        committed == document,
        "{path} is out of date from line {}: cargo shop docs writes it",
        differs.map_or_else(|| "its end".to_owned(), |line| (line + 1).to_string())
    );
}

#[test]
fn the_list_of_consumers_is_that_of_the_wiring_tables() {
    agrees("shared/events/consumers.txt", &Wiring::read().consumers());
}

#[test]
fn the_event_map_is_that_of_the_wiring_tables_and_the_golden_corpus() {
    agrees("docs/event-map.md", &map::page(&Wiring::read()));
}

#[test]
fn the_asyncapi_document_is_that_of_types_and_wiring() {
    let document = asyncapi::document(&Wiring::read());
    agrees("docs/asyncapi.yaml", &yaml::written(&document));
}

#[test]
fn the_rights_at_the_broker_are_those_of_the_wiring_tables() {
    agrees("deploy/nats/accounts.conf", &xtask::shop::accounts());
}

#[test]
fn every_header_of_an_envelope_is_documented_and_no_other() {
    assert_eq!(asyncapi::documented_headers(), asyncapi::sent_headers());
}

#[test]
fn the_asyncapi_document_is_valid_in_the_eyes_of_its_project() {
    parser::validate(&root(), &yaml::written(&asyncapi::document(&Wiring::read())));
}

/// Whatever anybody reacts to is told by somebody, and whatever is told is heard.
#[test]
fn nobody_waits_for_an_event_that_is_never_told() {
    let wiring = Wiring::read();
    let told: Vec<String> = events::contract::catalogue()
        .map(|event| event.event_type.label())
        .collect();
    for party in &wiring.parties {
        for (heard, _) in &party.reactions {
            assert!(told.contains(&heard.label()), "{} waits for {heard}", party.name);
        }
    }
}
