//! The edge of a service, over real sockets and against a real database.
#![allow(clippy::unwrap_used, missing_docs)]

mod admission;
mod door;
mod drain;
mod propagation;
mod refusals;
mod sockets;
