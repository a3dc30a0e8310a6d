//! The contracts in use, in the key-value bucket `SCHEMAS`: who sends what, and who expects what.
//!
//! They are one value under one key, which is replaced only by somebody who has seen the one before. So whoever
//! registers has been compared with everybody who did before, two at the same moment included, and who is refused
//! has changed nothing, even if killed on the way.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::jetstream::{self, kv, stream};
use events::contract::{Conflict, Contract};

/// The bucket; the provisioner creates it.
pub const BUCKET: &str = "SCHEMAS";
/// The only key in it.
pub const KEY: &str = "contracts";
/// How many former states can be looked up: `nats kv history SCHEMAS contracts`.
const HISTORY: i64 = 8;

/// The contracts in use by service.
pub type InUse = BTreeMap<String, Contract>;

/// What came of registering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// The contract is in use, and fits all others.
    Compatible,
    /// It is not in use: it does not fit one that is.
    Refused(Vec<Conflict>),
}

/// How the bucket is to be, which is a stream. Single messages are not shown as they are: whoever may write the key could
/// have what it wrote, headers included, sent in answer to a subject that it may not tell anything on.
pub(crate) fn bucket(replicas: usize) -> stream::Config {
    stream::Config {
        name: format!("KV_{BUCKET}"),
        description: Some("what the services send and expect".to_owned()),
        subjects: vec![format!("$KV.{BUCKET}.>")],
        max_messages_per_subject: HISTORY,
        storage: stream::StorageType::File,
        discard: stream::DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: false,
        num_replicas: replicas,
        ..stream::Config::default()
    }
}

/// Puts the service's contract in use, in place of its former one, unless it conflicts with that of another.
pub async fn register(jetstream: &jetstream::Context, service: &str, contract: &Contract) -> Result<Registered> {
    let store = store(jetstream).await?;
    loop {
        let (mut in_use, revision) = state(&store).await?;
        let others = in_use.iter().filter(|(name, _)| *name != service);
        let conflicts: Vec<_> = others
            .flat_map(|(name, other)| contract.conflicts(service, other, name))
            .collect();
        if !conflicts.is_empty() {
            return Ok(Registered::Refused(conflicts));
        }
        let before = in_use.insert(service.to_owned(), contract.clone());
        if before.as_ref() == Some(contract) || replace(&store, &in_use, revision).await? {
            return Ok(Registered::Compatible);
        }
    }
}

/// Forgets a service that is no more; false when it was not known.
pub async fn retire(jetstream: &jetstream::Context, service: &str) -> Result<bool> {
    let store = store(jetstream).await?;
    loop {
        let (mut in_use, revision) = state(&store).await?;
        if in_use.remove(service).is_none() {
            return Ok(false);
        }
        if replace(&store, &in_use, revision).await? {
            return Ok(true);
        }
    }
}

/// The contracts in use.
pub async fn in_use(jetstream: &jetstream::Context) -> Result<InUse> {
    Ok(state(&store(jetstream).await?).await?.0)
}

async fn store(jetstream: &jetstream::Context) -> Result<kv::Store> {
    let store = jetstream.get_key_value(BUCKET).await;
    store.with_context(|| format!("the broker has no bucket {BUCKET}: cargo shop provision creates it"))
}

/// The contracts, and the revision to be replaced. The leader is asked: any replica would answer a look into the bucket,
/// one that does not know the latest yet as well.
async fn state(store: &kv::Store) -> Result<(InUse, u64)> {
    let subject = format!("$KV.{BUCKET}.{KEY}");
    match store.stream.get_last_raw_message_by_subject(&subject).await {
        Ok(entry) if !entry.payload.is_empty() => {
            let in_use = serde_json::from_slice(&entry.payload).context("the registry of contracts is unreadable")?;
            Ok((in_use, entry.sequence))
        }
        Ok(deleted) => Ok((InUse::new(), deleted.sequence)),
        Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok((InUse::new(), 0)),
        Err(error) => Err(error).context("cannot read the registry of contracts"),
    }
}

/// Writes unless somebody else has written since; false then.
async fn replace(store: &kv::Store, in_use: &InUse, revision: u64) -> Result<bool> {
    let value = serde_json::to_vec(in_use)?;
    match store.update(KEY, value.into(), revision).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => Ok(false),
        Err(error) => Err(error).context("cannot write the registry of contracts"),
    }
}
