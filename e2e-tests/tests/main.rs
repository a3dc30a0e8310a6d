//! End to end: one test per chain, the traces, and what happens when something dies.
//!
//! One binary, so that all chains share one shop.

mod buyers;
mod cancellations;
mod chains;
mod deliveries;
mod faults;
mod looks;
mod traces;
