//! The states an order goes through, each with the version at which it got there.

use events::CancelReason;

use super::{Order, State};

/// An order got into another state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// The order's version from then on.
    pub version: i64,
    /// Where it stands.
    pub state: State,
    /// Why it is cancelled, or being cancelled.
    pub reason: Option<CancelReason>,
}

/// What is to be added to the history of an order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The state that the history ends with; none for a new order.
    pub newest: Option<State>,
    /// What is not saved yet.
    pub changes: Vec<StateChange>,
}

impl Order {
    /// Adds the order's state to its history, unless that is where the history ends.
    pub fn note_state(&mut self) {
        let state = self.state();
        if self.history.newest != Some(state) {
            self.history.newest = Some(state);
            self.history.changes.push(StateChange {
                version: self.version,
                state,
                reason: self.reason(),
            });
        }
    }
}
