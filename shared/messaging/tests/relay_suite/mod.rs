//! What every relay promises, however it learns of new events: this suite knows it only through
//! `Replica::relaying`, and what the outbox, the archive and the stream hold.

mod amnesia;
mod batches;
mod replicas;
