//! The messaging core: how a service hears events, decides, and tells what it decided, so that any
//! kill at any point loses nothing and doubles nothing.
//!
//! Everything that changes a service's state is a *decision*: a pure function over a
//! [`WorkingSet`], which returns the events that follow from it.
//!
//! | where it comes from | runs through |
//! |---|---|
//! | an event of another service | [`Reactions`], fed by the consumer |
//! | an HTTP request, the outcome of an [`Errand`] | [`Decisions`] |
//!
//! All of them end in the same [unit of work](mod@unit): one transaction that claims the inbox rows,
//! loads what the batch touches, decides, writes the outbox, saves, commits. Acknowledgements and
//! answers come after the commit; the [relay] publishes what the outbox holds. Nothing else publishes.

mod amnesia;
pub mod broker;
mod conformity;
mod consumer;
mod db;
pub mod dead_letters;
mod decisions;
mod envelope;
mod errand;
pub mod fault_points;
mod heard;
pub mod housekeeping;
mod inbox;
mod lanes;
mod metrics;
pub mod outbox;
mod pace;
pub mod provision;
mod publish;
mod reactions;
pub mod registry;
pub mod relay;
pub mod replay;
mod session;
pub mod status;
pub mod unit;

pub use consumer::consume;
pub use db::{Db, Trouble, all_saved, migrations};
pub use decisions::{Decisions, Undecided};
pub use envelope::Envelope;
pub use errand::{Errand, run_errand};
pub use events::{Draft, Emits, Fault};
pub use reactions::Reactions;
pub use session::Tx;
pub use unit::{Journal, Touched, WorkingSet};
