//! Producers that repeat themselves under new names: no inbox recognises that, the rules must.

use anyhow::Context as _;
use async_nats::HeaderMap;
use async_nats::jetstream::Context as JetStream;
use async_nats::jetstream::message::StreamMessage;
use e2e_tests::{PATIENCE, Service, Wish, World, run};
use events::Owner;
use uuid::Uuid;

use crate::deliveries::everything;

/// How often each event is told again.
const TIMES: usize = 5;

/// Rows 18, 19: every event of finished orders is published five more times, each time under an id of its own and all
/// of them in random order; states, stock, ledger, parcels and mails stay as they are, and nothing is told again.
///
/// Timelines do grow: they show what was heard. And an audit would fail, as it should: these events were written by
/// nobody.
#[test]
fn events_told_again_under_new_ids_and_in_any_order_change_nothing() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[]).await;
        let wishes = [
            Wish::of("TEA-ASSAM"),
            Wish::of("TEA-ASSAM").pieces(3),
            Wish::of("TEA-ASSAM").paid_by("pm_card_chargeDeclined"),
            Wish::of("TEA-ASSAM").paid_by("pm_card_down"),
            Wish::of("TEA-ASSAM").to("XX"),
        ];
        for wish in &wishes {
            let id = world.place(wish).await;
            world.ended(id).await;
        }
        let cancelled = world.place(&Wish::of("TEA-ASSAM").paid_by("pm_card_slow")).await;
        world.cancel(cancelled).await?;
        world.ended(cancelled).await;
        world.audit().await;
        world.shop.drained(PATIENCE).await?;

        let before = looks(&world).await?;
        let jetstream = world.jetstream().await?;
        let mut again = Vec::new();
        for owner in Owner::ALL {
            again.extend(all_of(&jetstream, owner).await?);
        }
        assert!(again.len() > 50 * TIMES, "only {} events are told again", again.len());
        fastrand::shuffle(&mut again);
        for told in again {
            tell(&jetstream, told).await?;
        }
        world.shop.drained(PATIENCE).await?;
        assert_eq!(looks(&world).await?, before);
        Ok(())
    })
}

/// Every message of a stream, as often as it will be told again.
async fn all_of(jetstream: &JetStream, owner: Owner) -> anyhow::Result<Vec<StreamMessage>> {
    let stream = jetstream.get_stream(owner.stream()).await?;
    let mut all = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await?;
        all.extend(std::iter::repeat_n(message, TIMES));
    }
    Ok(all)
}

/// Publishes past every outbox, as a producer would that has forgotten its ids.
#[allow(clippy::disallowed_methods, reason = "a misbehaving producer is what is played here")]
async fn tell(jetstream: &JetStream, told: StreamMessage) -> anyhow::Result<()> {
    // The broker's own headers tell of the batch that the message came in.
    let envelope = told
        .headers
        .iter()
        .filter(|(name, _)| !name.to_string().starts_with("Nats-"));
    let mut headers = HeaderMap::new();
    for (name, values) in envelope {
        values
            .iter()
            .for_each(|value| headers.append(name.clone(), value.clone()));
    }
    let id = Uuid::now_v7().to_string();
    headers.insert("ce-id", id.as_str());
    headers.insert(async_nats::header::NATS_MESSAGE_ID, id.as_str());
    let published = jetstream
        .publish_with_headers(told.subject, headers, told.payload)
        .await?;
    published.await.context("the broker took it")?;
    Ok(())
}

/// What the services know, without what they have merely heard.
async fn looks(world: &World) -> anyhow::Result<std::collections::BTreeMap<String, String>> {
    let mut all = everything(world).await?;
    all.retain(|query, _| !query.contains("timeline"));
    let products = world.get(Service::Inventory, "/v1/products").await?;
    all.insert("products".into(), products.to_string());
    Ok(all)
}
