//! What every relay promises, however it learns of new events: the suite knows it only through
//! `Replica::relaying_by`, and what the outbox, the archive and the stream hold. Each test runs once for
//! each relay; what only one of them promises follows in files of their own.
#![allow(clippy::duplicate_mod, reason = "the same promises, made by another relay")]

#[path = "."]
mod polling {
    const RELAY: messaging::relay::Kind = messaging::relay::Kind::Polling;
    mod amnesia;
    mod batches;
    mod replicas;
}

#[path = "."]
mod cdc {
    const RELAY: messaging::relay::Kind = messaging::relay::Kind::Cdc;
    mod amnesia;
    mod batches;
    mod replicas;
}

mod lanes;
mod log;
mod slot;
mod store;
mod switching;
