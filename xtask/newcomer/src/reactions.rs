//! What newcomer does with the events it hears.

use events::{Event, OrderCompleted};
use messaging::Reactions;

use crate::domain::Newcomer;

/// The wiring: what is heard, and what is done about it.
pub fn reactions() -> Reactions<Newcomer> {
    Reactions::of("newcomer").on::<OrderCompleted>(reward)
}

/// A point for what the event is about. The inbox sees to it that the same event is never rewarded twice.
pub fn reward(newcomer: &mut Newcomer, event: &OrderCompleted) {
    newcomer.reward(event.subject().to_string(), 1);
}
