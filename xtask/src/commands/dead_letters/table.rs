//! Dead letters as tables.

use serde_json::Value;
use xtask::shop::Service;

use super::super::ink::Ink;
use super::text;

/// One line each: where, which event, in which state, how often tried, why.
pub(super) fn letters(rows: &[(Service, Value)], ink: Ink) {
    if rows.is_empty() {
        return println!("There are no such dead letters.");
    }
    let header = line("service", "event", "state", "tries", "what", "why");
    println!("{}", ink.bold(&header));
    for (service, letter) in rows {
        let (state, tries) = (text(letter, "state"), letter["attempts"].to_string());
        let open = letter["closed_at"].is_null();
        let state = if state == "redriven" && !open { "handled" } else { state };
        let line = line(
            service.name(),
            text(letter, "event_id"),
            state,
            &tries,
            name(text(letter, "event_type")),
            text(letter, "reason"),
        );
        println!("{}", if state == "dead" { line } else { ink.dim(&line) });
    }
}

fn line(service: &str, event: &str, state: &str, tries: &str, what: &str, why: &str) -> String {
    format!("{service:<11}{event:<38}{state:<11}{tries:>5}  {what:<22}{why}")
}

/// One line for each event and reason.
pub(super) fn groups(rows: &[(Service, Value)], ink: Ink) {
    if rows.is_empty() {
        return println!("No event is dead.");
    }
    println!(
        "{}",
        ink.bold(&group("service", "events", "oldest", "newest", "type and reason"))
    );
    for (service, row) in rows {
        let (oldest, newest) = (minute(text(row, "oldest")), minute(text(row, "newest")));
        let about = format!("{}: {}", text(row, "event_type"), text(row, "reason"));
        println!(
            "{}",
            group(service.name(), &row["count"].to_string(), oldest, newest, &about)
        );
    }
}

fn group(service: &str, events: &str, oldest: &str, newest: &str, about: &str) -> String {
    format!("{service:<11}{events:>6}  {oldest:<18}{newest:<18}{about}")
}

/// `PaymentDeclined` of `shop.payment.PaymentDeclined.v1`.
fn name(event_type: &str) -> &str {
    event_type.split('.').nth(2).unwrap_or(event_type)
}

/// `2026-11-21T13:30` of a longer time.
fn minute(time: &str) -> &str {
    time.get(..16).unwrap_or(time)
}
