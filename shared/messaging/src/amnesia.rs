//! Broker amnesia: an acknowledgement is a promise that a broker can break.
//!
//! A power cut, a restored backup or a deleted stream takes events away that the broker had
//! acknowledged. The archive remembers them together with the stream sequence of each batch, so
//! the relay can ask: does the message at the highest sequence still have the id that it had? If
//! not, or if the stream is another one than the one remembered, every archived batch is looked up, and
//! what the stream no longer holds goes back into the outbox, under its old ids and in its old order.
//! Consumers that had heard it recognise it.
//!
//! Of the servers of a cluster only a stream's leader is asked, as a follower may lag behind. But for a moment a server
//! may lead no more and not know it: one that was frozen while another was elected does not find what was told to that
//! one. So a stream of several replicas is asked again for a while before it is believed to have forgotten.

use std::time::Duration;

use anyhow::ensure;
use async_nats::jetstream;
use async_nats::jetstream::stream::{ClusterInfo, RawMessageErrorKind, Stream};
use events::Owner;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::Db;

/// How many batches are looked up at once.
const WIDTH: usize = 64;
/// How many batches one query lists.
const PAGE: i64 = 1_000;

/// How long a leader of several replicas must insist. Heartbeats come every second, and a leader that is none any more
/// learns it from the answer to the next one that arrives.
const DOUBT: Duration = Duration::from_secs(5);
/// Between two of its answers.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How recently a leader must have heard of a follower to count on it: more than a heartbeat, and less than any follower
/// waits before it stands for election.
const IN_TOUCH: Duration = Duration::from_secs(3);

/// A published batch: where its last event is, or was.
struct Batch {
    id: i64,
    sequence: i64,
    last_event: Uuid,
}

/// Compares the archive with the stream; returns how many events went back into the outbox.
///
/// One lookup when all is well. A stream that was made anew may have grown past the old one before anybody looked, so its
/// birth is remembered as well. Any number of replicas may heal at once: each batch leaves the archive once.
pub(crate) async fn recall(db: &Db, jetstream: &jetstream::Context, owner: Owner) -> anyhow::Result<u64> {
    let Some(doubted) = look(db, jetstream, owner).await? else {
        return Ok(0);
    };
    let Some(Forgotten { stream, sequence }) = confirm(db, jetstream, owner, doubted).await? else {
        return Ok(0);
    };
    tracing::error!(
        stream = owner.stream(),
        sequence,
        "the broker has forgotten events that it had acknowledged, publishing them again"
    );
    let healed = heal(db, &stream).await?;
    remember(db, owner, born(&stream)).await?;
    tracing::warn!(
        stream = owner.stream(),
        events = healed,
        "forgotten events are in the outbox again"
    );
    Ok(healed)
}

/// A stream that does not hold what it should, as it says.
struct Forgotten {
    stream: Stream,
    /// Where the end of the last batch should be.
    sequence: i64,
}

/// One look at the last batch; none when it is where it should be.
async fn look(db: &Db, jetstream: &jetstream::Context, owner: Owner) -> anyhow::Result<Option<Forgotten>> {
    // The stream first: whatever is archived by then was published to it or to an older one.
    let stream = jetstream.get_stream(owner.stream()).await;
    let highest = page(db, (i64::MAX, 0), 1).await?.pop();
    let stream = match (stream, &highest) {
        (Ok(stream), _) => stream,
        // Nothing was ever published, so nothing can be missing.
        (Err(_), None) => return Ok(None),
        (Err(error), Some(_)) => return Err(error.into()),
    };
    let Some(highest) = highest else {
        remember(db, owner, born(&stream)).await?;
        return Ok(None);
    };
    if remembered(db, owner, born(&stream)).await? && holds(&stream, &highest).await? {
        return Ok(None);
    }
    let sequence = highest.sequence;
    Ok(Some(Forgotten { stream, sequence }))
}

/// Asks again until one and the same leader, with most of the replicas behind it, has insisted for long enough.
async fn confirm(
    db: &Db,
    jetstream: &jetstream::Context,
    owner: Owner,
    mut doubted: Forgotten,
) -> anyhow::Result<Option<Forgotten>> {
    let first = leader(&doubted.stream);
    let since = Instant::now();
    while is_replicated(&doubted.stream) && (since.elapsed() < DOUBT || !has_a_majority(&doubted.stream)) {
        sleep(ASK_AGAIN).await;
        doubted = match look(db, jetstream, owner).await? {
            Some(still) => still,
            None => return Ok(None),
        };
        ensure!(
            since.elapsed() < 2 * DOUBT,
            "whoever leads {} hears from too few replicas to be believed",
            owner.stream()
        );
        ensure!(
            leader(&doubted.stream) == first,
            "{} has another leader now, who is asked anew what it holds",
            owner.stream()
        );
    }
    Ok(Some(doubted))
}

fn born(stream: &Stream) -> i64 {
    stream.cached_info().created.timestamp_micros()
}

fn leader(stream: &Stream) -> Option<String> {
    stream.cached_info().cluster.as_ref()?.leader.clone()
}

fn is_replicated(stream: &Stream) -> bool {
    let cluster = &stream.cached_info().cluster;
    cluster.as_ref().is_some_and(|cluster| !cluster.replicas.is_empty())
}

/// Whether the server that answered leads, and hears from so many followers that nobody else can.
fn has_a_majority(stream: &Stream) -> bool {
    let cluster = &stream.cached_info().cluster;
    cluster.as_ref().is_some_and(leads_a_majority)
}

fn leads_a_majority(cluster: &ClusterInfo) -> bool {
    let in_touch = cluster.replicas.iter();
    let in_touch = in_touch.filter(|replica| !replica.offline && replica.active < IN_TOUCH);
    // The leader itself is not in this list.
    cluster.leader.is_some() && 2 * (in_touch.count() + 1) > cluster.replicas.len() + 1
}

/// Whether the archive is about this very stream; the first one that is seen is remembered.
async fn remembered(db: &Db, owner: Owner, born: i64) -> sqlx::Result<bool> {
    let known = sqlx::query_scalar!("select born from outbox_streams where stream = $1", owner.stream());
    match db.once(async |session| known.fetch_optional(session).await).await? {
        Some(known) => Ok(known == born),
        None => remember(db, owner, born).await.map(|()| true),
    }
}

async fn remember(db: &Db, owner: Owner, born: i64) -> sqlx::Result<()> {
    let remembering = sqlx::query!(
        "insert into outbox_streams (stream, born) values ($1, $2) on conflict (stream) do update set born = excluded.born",
        owner.stream(),
        born,
    );
    db.once(async |session| remembering.execute(session).await).await?;
    Ok(())
}

/// Looks every batch up, the newest first, and takes back what is gone.
async fn heal(db: &Db, stream: &Stream) -> anyhow::Result<u64> {
    let mut healed = 0;
    let mut below = (i64::MAX, 0);
    loop {
        let batches = page(db, below, PAGE).await?;
        let Some(last) = batches.last() else {
            return Ok(healed);
        };
        below = (last.sequence, last.id);
        let looked_up = stream::iter(batches).map(|batch| async move {
            let gone = !expired(stream, &batch) && !holds(stream, &batch).await?;
            anyhow::Ok(gone.then_some(batch.id))
        });
        let gone: Vec<Option<i64>> = looked_up.buffered(WIDTH).try_collect().await?;
        let gone: Vec<i64> = gone.into_iter().flatten().collect();
        healed += take_back(db, &gone).await?;
    }
}

/// Archived batches in descending order of their place, below a sequence and id.
async fn page(db: &Db, (sequence, id): (i64, i64), limit: i64) -> sqlx::Result<Vec<Batch>> {
    let listed = sqlx::query_as!(
        Batch,
        r#"
        select id, stream_sequence as sequence, (events[cardinality(events)]).event_id as "last_event!"
        from outbox_archive where (stream_sequence, id) < ($1, $2)
        order by stream_sequence desc, id desc limit $3
        "#,
        sequence,
        id,
        limit,
    );
    db.once(async |session| listed.fetch_all(session).await).await
}

/// Whether the stream has let it go for its age, as it should.
fn expired(stream: &Stream, batch: &Batch) -> bool {
    batch.sequence.unsigned_abs() < stream.cached_info().state.first_sequence
}

/// Whether the stream has this very event where the batch ended; an atomic batch is there whole or not at all.
async fn holds(stream: &Stream, batch: &Batch) -> anyhow::Result<bool> {
    match stream.get_raw_message(batch.sequence.unsigned_abs()).await {
        Ok(message) => {
            let id = message.headers.get("ce-id").map(ToString::to_string);
            Ok(id == Some(batch.last_event.to_string()))
        }
        Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Moves batches from the archive back into the outbox, whence the relay publishes them as ever.
async fn take_back(db: &Db, batches: &[i64]) -> sqlx::Result<u64> {
    if batches.is_empty() {
        return Ok(0);
    }
    let mut tx = db.begin().await?;
    let moved = sqlx::query!(
        r#"
        with gone as (delete from outbox_archive where id = any($1) returning events)
        insert into outbox overriding system value
        select event.* from gone cross join lateral unnest(gone.events) as event
        "#,
        batches,
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    db.announce_commit();
    Ok(moved.rows_affected())
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::stream::PeerInfo;

    use super::*;

    fn cluster(leader: Option<&str>, heard_before: [u64; 2]) -> ClusterInfo {
        let replica = |seconds| PeerInfo {
            active: Duration::from_secs(seconds),
            ..PeerInfo::default()
        };
        ClusterInfo {
            leader: leader.map(str::to_owned),
            replicas: heard_before.map(replica).into(),
            ..ClusterInfo::default()
        }
    }

    #[test]
    fn a_leader_that_hears_from_nobody_is_not_believed() {
        assert!(leads_a_majority(&cluster(Some("a"), [0, 0])));
        assert!(leads_a_majority(&cluster(Some("a"), [0, 100])));
        assert!(!leads_a_majority(&cluster(Some("a"), [5, 100])));
        assert!(!leads_a_majority(&cluster(None, [0, 0])));
    }
}
