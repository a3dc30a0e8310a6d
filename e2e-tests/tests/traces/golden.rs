//! The shape of each chain, written down: `cargo shop docs` writes the files, the tests compare.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e_tests::{PATIENCE, Service, Wish, World, run};
use reqwest::Response;
use serde_json::json;
use trace_viewer::{Kind, Span};
use uuid::Uuid;

use super::{assert_sound, orphans, shape, spans_until};

/// Every attribute that a span may have. None holds what a customer entrusts to the shop.
const ALLOWED: [&str; 29] = [
    "cloudevents.event_id",
    "cloudevents.event_source",
    "cloudevents.event_type",
    "db.namespace",
    "db.operation.batch.size",
    "db.operation.name",
    "db.system.name",
    "error.type",
    "http.request.method",
    "http.response.status_code",
    "http.route",
    "messaging.batch.message_count",
    "messaging.consumer.group.name",
    "messaging.destination.name",
    "messaging.message.conversation_id",
    "messaging.message.id",
    "messaging.operation.name",
    "messaging.operation.type",
    "messaging.system",
    "peer.service",
    "server.address",
    "server.port",
    "shipment_id",
    "shop.ignored",
    "shop.inbox.duplicate",
    "shop.message.delivery_count",
    "shop.redriven",
    "trace_id",
    "url.template",
];

/// What every process says of itself, beside its name.
const RESOURCE: [&str; 3] = ["service.version", "service.instance.id", "deployment.environment.name"];

#[test]
fn each_chain_has_the_shape_that_is_written_down() -> anyhow::Result<()> {
    run(async {
        // Nobody loses patience, however busy the machine is.
        let world = World::open(&[
            (Service::Order, "STOCK_CHECK_TIMEOUT_MS", "60000"),
            (Service::Payment, "GATEWAY_TIMEOUT_MS", "60000"),
        ])
        .await;
        let wish = Wish::of("TEA-ASSAM");
        let happy = world.place(&wish).await;
        let seen = [
            compare(&world, "happy", of_order(&world, happy).await, "OrderCompleted").await?,
            compare(&world, "return", send_back(&world, happy).await?, "OrderRefunded").await?,
            ends(&world, "declined", &wish.clone().paid_by("pm_card_chargeDeclined")).await?,
            ends(&world, "undeliverable", &wish.clone().to("XX")).await?,
            compare(&world, "out_of_stock", sold_out(&world).await?, "OrderCancelled").await?,
            compare(&world, "redelivery", redelivered(&world).await?, "OrderCompleted").await?,
        ];
        every_event_was_published(&world, &seen.concat()).await
    })
}

async fn ends(world: &World, chain: &str, wish: &Wish) -> anyhow::Result<Vec<Span>> {
    let id = world.place(wish).await;
    compare(world, chain, of_order(world, id).await, "OrderCancelled").await
}

/// The trace of an order that has come to its end.
async fn of_order(world: &World, id: Uuid) -> String {
    world.ended(id).await["trace_id"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn trace_of(answer: &Response) -> anyhow::Result<String> {
    let header = answer.headers().get("trace-id").context("no trace id")?;
    Ok(header.to_str()?.to_owned())
}

async fn send_back(world: &World, order: Uuid) -> anyhow::Result<String> {
    let url = format!("{}/v1/orders/{order}/returns", world.shop.url(Service::Order));
    let wish = json!({ "lines": [{ "sku": "TEA-ASSAM", "quantity": 1 }], "reason": "changed my mind" });
    let answer = world.http.post(url).json(&wish).send().await?;
    let trace = trace_of(&answer)?;
    world.reached(order, "REFUNDED").await;
    Ok(trace)
}

/// Two orders for all that there is, taken while inventory is away: one of them has to be refused.
async fn sold_out(world: &World) -> anyhow::Result<String> {
    let product = world.get(Service::Inventory, "/v1/products/TEA-SENCHA").await?;
    let all = product["available"].as_i64().context("no stock")?;
    world.shop.kill(Service::Inventory).await?;
    let wish = Wish::of("TEA-SENCHA").pieces(all);
    let orders = [world.place(&wish).await, world.place(&wish).await];
    world.shop.start_service(Service::Inventory).await?;
    for id in orders {
        let order = world.ended(id).await;
        if order["reason"] == "OUT_OF_STOCK" {
            return Ok(order["trace_id"].as_str().unwrap_or_default().to_owned());
        }
    }
    anyhow::bail!("there was enough for both")
}

/// Inventory takes so long to acknowledge that it hears of the order once more.
async fn redelivered(world: &World) -> anyhow::Result<String> {
    let ack_wait = Duration::from_secs(2);
    world.redeliver_to(Service::Inventory, "ORDER", ack_wait).await?;
    world
        .shop
        .arm(Service::Inventory, "consumer.unacknowledged", "delay 5000")?;
    let id = world.place(&Wish::of("TEA-ASSAM")).await;
    Ok(of_order(world, id).await)
}

/// Compares the shape of a trace with its file once all its spans have arrived, or writes the file.
async fn compare(world: &World, chain: &str, trace: String, last: &str) -> anyhow::Result<Vec<Span>> {
    world.drained().await?;
    let spans = spans_until(world, &trace, last).await;
    assert_sound(&spans);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/traces/golden/{chain}.txt"));
    if std::env::var("UPDATE_DOCS").is_ok_and(|wish| wish == "1") {
        fs::write(&file, shape::of(&settled(world, &trace).await))?;
    }
    let golden = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let is_golden = |spans: &[Span]| orphans(spans).is_empty() && shape::of(spans) == golden;
    let arrived = world.viewer.wait_for(&trace, is_golden, PATIENCE).await;
    let spans = arrived.unwrap_or_else(|_| world.viewer.spans(&trace));
    let found = shape::of(&spans);
    let differs = found.lines().zip(golden.lines()).find(|(new, old)| new != old);
    ensure!(found == golden, "{chain} has another shape, {differs:?}:\n{found}");
    for span in &spans {
        let unknown = span.attributes.keys().find(|key| !ALLOWED.contains(&key.as_str()));
        ensure!(unknown.is_none(), "{unknown:?} is not allowed: {span:?}");
        let missing = RESOURCE.into_iter().find(|key| !span.resource.contains_key(*key));
        ensure!(missing.is_none(), "{} does not say its {missing:?}", span.service);
    }
    Ok(spans)
}

/// The spans once no more arrive.
async fn settled(world: &World, trace: &str) -> Vec<Span> {
    let mut spans = world.viewer.spans(trace);
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let now = world.viewer.spans(trace);
        if now.len() == spans.len() {
            return now;
        }
        spans = now;
    }
}

/// Batches are traces of their own, which link the span of each event in them.
async fn every_event_was_published(world: &World, spans: &[Span]) -> anyhow::Result<()> {
    let created = spans.iter().filter(|span| span.kind == Kind::Producer);
    let created: BTreeMap<&str, &str> = created
        .map(|span| (span.span_id.as_str(), span.name.as_str()))
        .collect();
    ensure!(!created.is_empty());
    let published = world.until("every event is linked by the batch that published it", || async {
        let traces = world.viewer.traces();
        let batches = traces.iter().flat_map(|trace| world.viewer.spans(trace));
        let batches = batches.filter(|span| span.name.starts_with("publish ") && span.parent_id.is_none());
        let linked: BTreeSet<String> = batches.flat_map(|span| span.links).map(|(_, linked)| linked).collect();
        let missing = created.iter().find(|(span, _)| !linked.contains(**span));
        ensure!(missing.is_none(), "{missing:?}");
        Ok(Some(()))
    });
    published.await
}
