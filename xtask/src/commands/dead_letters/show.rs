//! A dead letter with everything about it.

use serde_json::Value;
use xtask::shop::Service;

use super::super::ink::Ink;
use super::text;

pub(super) fn letter(service: Service, letter: &Value, ink: Ink) {
    println!("{} in {service}", ink.bold(text(letter, "event_id")));
    let place = format!("{}/{}", text(letter, "stream"), letter["stream_sequence"]);
    let lines = [
        ("state", text(letter, "state")),
        ("reason", text(letter, "reason")),
        ("type", text(letter, "event_type")),
        ("subject", text(letter, "subject")),
        ("place", &place),
        ("tries", &letter["attempts"].to_string()),
        ("trace", text(letter, "trace_id")),
        ("since", text(letter, "buried_at")),
        ("closed", text(letter, "closed_at")),
    ];
    for (name, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
        println!("  {name:<9}{value}");
    }
    section("headers", &letter["headers"], ink);
    match letter.get("payload") {
        Some(payload) => section("payload", payload, ink),
        None => section("payload, in base64", &letter["payload_base64"], ink),
    }
    println!("{}", ink.bold("history"));
    for action in letter["history"].as_array().into_iter().flatten() {
        let reason = text(action, "reason");
        let why = if reason.is_empty() {
            String::new()
        } else {
            format!(": {reason}")
        };
        let (at, what, who) = (text(action, "happened_at"), text(action, "what"), text(action, "who"));
        println!("  {at:<30}{what:<9}by {who}{why}");
    }
}

fn section(title: &str, content: &Value, ink: Ink) {
    println!("{}", ink.bold(title));
    let pretty = serde_json::to_string_pretty(content).unwrap_or_default();
    for line in pretty.lines() {
        println!("  {line}");
    }
}
