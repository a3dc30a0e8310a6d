//! What the tests hear.

use events::{Event, OrderCompleted};
use messaging::{Decisions, Touched};
use newcomer::domain::Newcomer;
use newcomer::reactions;
use serde_json::json;

/// An event about this subject.
pub(crate) fn heard(subject: &str) -> OrderCompleted {
    let content = json!({
        "order_id": subject,
        "completed_at": "2026-01-05T12:00:00Z",
        "total": 1,
        "currency": "EUR"
    });
    serde_json::from_value(content).unwrap()
}

/// Reacts to an event in a unit of work of its own.
pub(crate) async fn hear(decisions: &Decisions<Newcomer>, subject: &str) {
    let event = heard(subject);
    let touched = Touched::by(&event);
    assert_eq!(event.subject().to_string(), subject);
    let react = move |newcomer: &mut Newcomer| ((), reactions::reward(newcomer, &event));
    decisions.decide(touched, react).await.unwrap();
}
