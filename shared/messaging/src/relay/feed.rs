//! How a relay learns what there is to publish: the one thing in which relays differ.

use std::future::Future;

use super::row::Row;
use crate::lanes::Lanes;

/// What feeds a relay. Whatever it knows and however, a row is published only while it is in the outbox
/// and its lane is ours.
pub(crate) trait Feed: Send {
    /// Whether this replica takes part; until then it is asked again and again.
    fn join(&mut self, lanes: &mut Lanes) -> impl Future<Output = sqlx::Result<bool>> + Send;

    /// The next rows to publish: ours, not published yet, in the order of their ids.
    fn next(&mut self, lanes: &mut Lanes, limit: i64) -> impl Future<Output = anyhow::Result<Vec<Row>>> + Send;

    /// The rows that were next are published and archived, and both are durable.
    fn settled(&mut self);

    /// Waits until there may be more, for a moment at most.
    fn wait(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Rows went back into the outbox behind its back.
    fn look_again(&mut self);

    /// What is to be seen to now and then.
    fn tend(&mut self, lanes: &mut Lanes) -> impl Future<Output = anyhow::Result<()>> + Send;
}
