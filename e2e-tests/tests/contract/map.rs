//! `docs/event-map.md`: who tells what, who hears it, and what follows.

use std::fmt::Write as _;

use events::{EventType, Owner};

use super::wiring::{Wiring, of};

/// More answers than these are not listed: then the order's state decides, not the event.
const FEW: usize = 6;

const HEAD: &str = "# Event map

Written by `cargo shop docs` from the wiring tables of the services and the golden corpus; a test compares it.

*May follow* says which events have a reaction that may tell this one, by the types that the reaction returns; *unasked*
is what only a request, a deadline or the outcome of an errand (a charge, a parcel, a message) tells. *Seen after* is
what the golden corpus has recorded, errands included.

";

const LEGEND: &str = "## What was seen to follow

Every arrow was recorded from real orders, or written down for events that no chain tells yet. A solid one is the
answer of a reaction; a dotted one had an errand or a decision of its own between.

";

pub(crate) fn page(wiring: &Wiring) -> String {
    let mut page = HEAD.to_owned();
    for owner in Owner::ALL {
        let _ = writeln!(
            page,
            "## {} tells (stream `{}`)\n",
            capital(owner.name()),
            owner.stream()
        );
        page.push_str("| event | may follow | seen after | heard by |\n|---|---|---|---|\n");
        for event in of(owner) {
            let _ = writeln!(page, "{}", row(wiring, event));
        }
        page.push('\n');
    }
    page.push_str(LEGEND);
    page.push_str(&diagram(wiring));
    page
}

fn row(wiring: &Wiring, event: EventType) -> String {
    let answers = wiring.answers(event);
    let after = match answers.len() {
        0 => "*unasked*".to_owned(),
        1..=FEW => listed(answers.iter().map(|heard| heard.name)),
        many => format!("any of {many} facts about its order"),
    };
    let seen = wiring.seen_after(event);
    let seen = listed(seen.iter().map(|cause| match cause {
        Some(label) => label.split('.').next().unwrap_or_default(),
        None => "a request",
    }));
    let heard_by = match wiring.heard_by(event).as_slice() {
        [] => "nobody yet".to_owned(),
        names => names.join(", "),
    };
    format!("| {} | {after} | {seen} | {heard_by} |", event.label())
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// Events by owner, and an arrow for each pair that was seen.
fn diagram(wiring: &Wiring) -> String {
    let mut text = "```mermaid\nflowchart LR\n".to_owned();
    for owner in Owner::ALL {
        let _ = writeln!(text, "    subgraph {}", owner.name());
        for event in of(owner).filter(|event| event.version == 1) {
            let _ = writeln!(text, "        {}", event.name);
        }
        text.push_str("    end\n");
    }
    for event in Owner::ALL.into_iter().flat_map(of) {
        let answers = wiring.answers(event);
        for cause in wiring.seen_after(event).into_iter().flatten() {
            let is_answer = answers.iter().any(|heard| heard.label() == cause);
            let arrow = if is_answer { "-->" } else { "-.->" };
            let name = cause.split('.').next().unwrap_or_default();
            let _ = writeln!(text, "    {name} {arrow} {}", event.name);
        }
    }
    text.push_str("```\n");
    text
}

fn capital(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    first.to_uppercase() + rest
}
