//! One order is one trace, for every chain.

mod golden;
mod sampling;
mod shape;

use std::collections::{BTreeMap, BTreeSet};

use e2e_tests::{PATIENCE, Service, Wish, World, listeners, run};
use trace_viewer::{Kind, Span};
use uuid::Uuid;

const SERVICES: [&str; 6] = ["analytics", "email", "inventory", "order", "payment", "warehouse"];

#[test]
fn a_completed_order_is_one_trace_through_all_six_services() {
    run(one_trace(Wish::of("TEA-ASSAM"), "OrderCompleted", &SERVICES));
}

#[test]
fn a_declined_order_is_one_trace() {
    let without_warehouse = ["analytics", "email", "inventory", "order", "payment"];
    run(one_trace(
        Wish::of("TEA-ASSAM").paid_by("pm_card_chargeDeclined"),
        "OrderCancelled",
        &without_warehouse,
    ));
}

#[test]
fn an_undeliverable_order_is_one_trace_through_all_six_services() {
    run(one_trace(Wish::of("TEA-ASSAM").to("XX"), "OrderCancelled", &SERVICES));
}

#[test]
fn a_payment_that_times_out_is_one_trace() {
    let without_warehouse = ["analytics", "email", "inventory", "order", "payment"];
    run(one_trace(
        Wish::of("TEA-ASSAM").paid_by("pm_card_down"),
        "OrderCancelled",
        &without_warehouse,
    ));
}

#[test]
fn a_cancelled_order_continues_the_trace_of_its_own_cancellation() {
    run(async {
        let world = World::open(&[(Service::Warehouse, "WAREHOUSE_AUTO", "false")]).await;
        let id = world.place(&Wish::of("TEA-ASSAM")).await;
        world.reached(id, "CONFIRMED").await;
        let cancelled = world
            .http
            .post(format!("{}/v1/orders/{id}/cancel", world.shop.url(Service::Order)))
            .send()
            .await;
        let header = cancelled
            .ok()
            .and_then(|answer| answer.headers().get("trace-id")?.to_str().ok().map(str::to_owned));
        let trace = header.unwrap_or_default();
        let spans = spans_until(&world, &trace, "OrderCancelled").await;
        assert_sound(&spans);
        assert_eq!(services(&spans), BTreeSet::from(SERVICES));
    });
}

#[test]
fn a_callers_trace_is_continued_and_its_state_carried() {
    run(async {
        let world = World::shared().await;
        let (trace, parent) = (Uuid::now_v7().simple().to_string(), "b7ad6b7169203331");
        let request = world
            .http
            .get(format!("{}/v1/orders", world.shop.url(Service::Order)))
            .header("traceparent", format!("00-{trace}-{parent}-01"))
            .header("tracestate", "vendor=1");
        let answer = request.send().await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            answer.headers().get("trace-id").and_then(|id| id.to_str().ok()),
            Some(trace.as_str())
        );
        let spans = world.viewer.wait_for(&trace, |spans| !spans.is_empty(), PATIENCE).await;
        let spans = spans.unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(
            (spans[0].parent_id.as_deref(), spans[0].kind),
            (Some(parent), Kind::Server)
        );
        assert_eq!(spans[0].name, "GET /v1/orders");
    });
}

/// Those of the saga that took part; whoever else listens may join any trace.
fn services(spans: &[Span]) -> BTreeSet<&str> {
    let all = spans.iter().map(|span| span.service.as_str());
    all.filter(|service| SERVICES.contains(service)).collect()
}

async fn one_trace(wish: Wish, last: &str, expected: &[&str]) {
    let world = World::shared().await;
    let id = world.place(&wish).await;
    let order = world.ended(id).await;
    let trace = order["trace_id"].as_str().unwrap_or_default().to_owned();
    let spans = spans_until(world, &trace, last).await;
    assert_sound(&spans);
    let expected = expected.iter().copied().collect();
    assert_eq!(services(&spans), expected, "the services of the trace");

    let roots: Vec<&Span> = spans.iter().filter(|span| span.parent_id.is_none()).collect();
    assert_eq!(
        roots.iter().map(|root| root.name.as_str()).collect::<Vec<_>>(),
        ["POST /v1/orders"]
    );
    let pool = world
        .pool(Service::Order)
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
    let traces: Vec<String> = sqlx::query_scalar("select distinct trace_id from timeline where order_id = $1")
        .bind(id)
        .fetch_all(&pool)
        .await
        .unwrap_or_default();
    assert_eq!(traces, [trace], "every event of the order belongs to its trace");
}

/// The spans of a trace once every event that was created has been processed by everybody who hears it.
async fn spans_until(world: &World, trace: &str, last: &str) -> Vec<Span> {
    let complete = |spans: &[Span]| {
        let last = spans
            .iter()
            .any(|span| span.name.starts_with("process ") && span.name.ends_with(last));
        let created = spans.iter().filter(|span| span.kind == Kind::Producer);
        let heard = |span: &Span| {
            let told = listeners(
                span.name
                    .trim_start_matches("create shop.")
                    .rsplit('.')
                    .next()
                    .unwrap_or_default(),
            );
            let heard = spans
                .iter()
                .filter(|other| other.parent_id.as_ref() == Some(&span.span_id) && other.kind == Kind::Consumer);
            heard.count() >= told
        };
        let mut created = created.peekable();
        last && created.peek().is_some() && created.all(heard) && orphans(spans).is_empty()
    };
    match world.viewer.wait_for(trace, complete, PATIENCE).await {
        Ok(spans) => spans,
        Err(error) => panic!("{error:#}"),
    }
}

fn orphans(spans: &[Span]) -> Vec<String> {
    let known: BTreeSet<&str> = spans.iter().map(|span| span.span_id.as_str()).collect();
    let lost = spans
        .iter()
        .filter(|span| span.parent_id.as_deref().is_some_and(|parent| !known.contains(parent)));
    lost.map(|span| format!("{} of {}", span.name, span.service)).collect()
}

/// No orphan; every consumer span is the child of the producing span, and links to it; ids agree.
fn assert_sound(spans: &[Span]) {
    assert_eq!(orphans(spans), Vec::<String>::new());
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
    let consumers: Vec<&Span> = spans.iter().filter(|span| span.kind == Kind::Consumer).collect();
    assert!(!consumers.is_empty());
    for span in consumers {
        let Some(producer) = span.parent_id.as_deref().and_then(|parent| by_id.get(parent)) else {
            panic!("{} has no parent", span.name);
        };
        assert_eq!(
            producer.kind,
            Kind::Producer,
            "{} is a child of {}",
            span.name,
            producer.name
        );
        assert_eq!(
            span.name.trim_start_matches("process "),
            producer.name.trim_start_matches("create ")
        );
        assert_eq!(
            span.attributes["messaging.message.id"],
            producer.attributes["messaging.message.id"]
        );
        assert!(
            span.links.iter().any(|(_, linked)| *linked == producer.span_id),
            "{} links its producer",
            span.name
        );
        assert_eq!(span.attributes["messaging.system"], "nats");
    }
    let secrets = spans
        .iter()
        .flat_map(|span| span.attributes.values())
        .filter(|value| value.contains('@') || value.contains("pm_card"));
    assert_eq!(
        secrets.collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "personal data or payment methods in spans"
    );
}
