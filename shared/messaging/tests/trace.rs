//! A trace goes on from an event, or a request, to the events that follow from it.

use async_nats::HeaderMap;
use messaging::Touched;
use opentelemetry::global;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use telemetry::TraceContext;
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use uuid::Uuid;

use crate::common::{Ledger, World, declined, headers, see};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const STATE: &str = "vendor=1,other@tenant=x";

#[tokio::test]
async fn an_event_that_follows_from_another_is_its_child() {
    let world = traced_world().await;
    let mut headers = headers(Uuid::now_v7(), &declined(Uuid::now_v7(), ""));
    headers.insert("traceparent", PARENT);
    headers.insert("tracestate", STATE);
    let payload = serde_json::to_vec(&declined(Uuid::now_v7(), "")).unwrap();
    world.publish(headers, payload).await;
    let _replica = world.replica().await.consuming().relaying();
    world.all_heard().await;
    world.all_published().await;
    assert_child_of_parent(&world.stream().await[0].headers);
}

#[tokio::test]
async fn an_event_that_follows_from_a_request_is_its_child() {
    let world = traced_world().await;
    let tracer = global::tracer_provider().tracer("test");
    let spans = tracing_opentelemetry::layer().with_tracer(tracer);
    let _guard = tracing_subscriber::registry().with(spans).set_default();
    let replica = world.replica().await.relaying();
    let request = tracing::info_span!("request");
    telemetry::follow(&request, &TraceContext::parse(PARENT, Some(STATE)).unwrap());

    let (decisions, order) = (replica.decisions(), Uuid::now_v7());
    let asked = decisions.decide(Touched::order(order), move |ledger: &mut Ledger| {
        ((), see(ledger, order))
    });
    asked.instrument(request).await.unwrap();
    world.all_published().await;
    assert_child_of_parent(&world.stream().await[0].headers);
}

async fn traced_world() -> World {
    global::set_tracer_provider(SdkTracerProvider::builder().build());
    World::new().await
}

/// The same trace and state, another span.
fn assert_child_of_parent(headers: &HeaderMap) {
    let child = headers.get("traceparent").unwrap().as_str();
    assert_eq!(child.len(), PARENT.len());
    assert!(
        child.starts_with(&PARENT[..36]) && !child.contains("b7ad6b7169203331"),
        "{child}"
    );
    assert_eq!(headers.get("tracestate").unwrap().as_str(), STATE);
}
