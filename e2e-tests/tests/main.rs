//! End to end: one test per chain, the traces, and what happens when something dies.
//!
//! One binary, so that all chains share one shop.

mod amnesia;
mod audit;
mod books;
mod buyers;
mod cancellations;
mod chains;
mod chaos;
mod clocks;
mod cluster;
mod contracts;
mod crashes;
mod dashboards;
mod dead_letters;
mod deliveries;
mod disorder;
mod edge;
mod faults;
mod load;
mod looks;
mod metrics;
mod partitions;
mod replays;
mod returns;
mod rights;
mod rollouts;
mod sagas;
mod surface;
mod traces;
