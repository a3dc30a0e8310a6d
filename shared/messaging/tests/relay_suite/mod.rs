//! What every relay promises, however it learns of new events: the suite knows it only through
//! `Replica::relaying_by`, and what the outbox, the archive and the stream hold. Each test runs once for
//! each relay; what only one of them promises follows in files of their own.
#![allow(clippy::duplicate_mod, reason = "the same promises, made by another relay")]

mod polling {
    const RELAY: messaging::relay::Kind = messaging::relay::Kind::Polling;
    #[path = "../amnesia.rs"]
    mod amnesia;
    #[path = "../batches.rs"]
    mod batches;
    #[path = "../replicas.rs"]
    mod replicas;
}

mod cdc {
    const RELAY: messaging::relay::Kind = messaging::relay::Kind::Cdc;
    #[path = "../amnesia.rs"]
    mod amnesia;
    #[path = "../batches.rs"]
    mod batches;
    #[path = "../replicas.rs"]
    mod replicas;
}

mod lanes;
mod slot;
mod switching;
