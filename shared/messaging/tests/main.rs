//! What the messaging core promises, on a real database and a real broker.
//!
//! Rows in doc comments are those of the project's table of failures.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

mod cluster;
mod common;
mod consumer;
mod contracts;
mod deaths;
mod decisions;
mod errands;
mod housekeeping;
mod links;
mod outages;
mod poison;
mod redrive;
mod relay_suite;
mod trace;
mod versions;
