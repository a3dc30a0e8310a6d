//! Reading what is not in a database: the streams, and the gateway's own book.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::HeaderMap;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::{self, Message as Delivered};
use events::Owner;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use reqwest::Client;
use serde::Deserialize;

use super::books::{Charge, Message};

/// How long the broker or the gateway may be silent.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many charges the gateway is asked for at a time.
const PAGE: u32 = 1_000;

/// A connection to a broker that is there.
pub(super) async fn jetstream(url: &str) -> Result<jetstream::Context> {
    let (options, servers) = messaging::broker::options(url)?;
    let client = options
        .name("cargo shop audit")
        .connection_timeout(PATIENCE)
        .connect(servers)
        .await?;
    Ok(jetstream::new(client))
}

/// Every message of every stream, without its content.
pub(super) async fn read(url: &str) -> Result<BTreeMap<Owner, Vec<Message>>> {
    let jetstream = jetstream(url).await?;
    let streams = Owner::ALL.map(async |owner| Ok::<_, anyhow::Error>((owner, read_one(&jetstream, owner).await?)));
    Ok(try_join_all(streams).await?.into_iter().collect())
}

async fn read_one(jetstream: &jetstream::Context, owner: Owner) -> Result<Vec<Message>> {
    let stream = jetstream.get_stream(owner.stream()).await?;
    let state = stream.cached_info().state.clone();
    let mut read = Vec::with_capacity(usize::try_from(state.messages)?);
    if state.messages == 0 {
        return Ok(read);
    }
    let config = OrderedConfig {
        headers_only: true,
        ..OrderedConfig::default()
    };
    let mut messages = stream.create_consumer(config).await?.messages().await?;
    loop {
        let next = tokio::time::timeout(PATIENCE, messages.next()).await;
        let Some(delivered) = next.with_context(|| format!("the stream {} has stopped", owner.stream()))? else {
            return Ok(read);
        };
        let delivered = delivered?;
        let info = delivered.info().map_err(anyhow::Error::from_boxed)?;
        let (sequence, last) = (info.stream_sequence, info.pending == 0);
        read.push(message(&delivered, i64::try_from(sequence)?));
        if last || sequence >= state.last_sequence {
            return Ok(read);
        }
    }
}

fn message(delivered: &Delivered, sequence: i64) -> Message {
    let header = |name: &str| {
        let headers: Option<&HeaderMap> = delivered.headers.as_ref();
        headers
            .and_then(|headers| headers.get(name))
            .map(|value| value.as_str().to_owned())
    };
    Message {
        sequence,
        nats_subject: delivered.subject.to_string(),
        event_id: header("ce-id").and_then(|id| id.parse().ok()),
        event_type: header("ce-type").unwrap_or_default(),
        subject: header("ce-subject").unwrap_or_default(),
    }
}

/// Every charge that the gateway took, a page at a time.
pub(super) async fn charges(gateway_url: &str) -> Result<Vec<Charge>> {
    #[derive(Deserialize)]
    struct Page {
        data: Vec<Charge>,
        has_more: bool,
    }
    let client = Client::builder().no_proxy().timeout(PATIENCE).build()?;
    let mut charges: Vec<Charge> = Vec::new();
    loop {
        let mut request = client
            .get(format!("{gateway_url}/v1/charges"))
            .query(&[("limit", PAGE)]);
        if let Some(last) = charges.last() {
            request = request.query(&[("starting_after", &last.id)]);
        }
        let page: Page = request.send().await?.error_for_status()?.json().await?;
        let more = page.has_more && !page.data.is_empty();
        charges.extend(page.data);
        if !more {
            return Ok(charges);
        }
    }
}
