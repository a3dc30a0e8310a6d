//! What a real OTLP exporter sends comes back through Jaeger's query API and through the library.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use serde_json::{Value, json};
use trace_viewer::{Kind, Options, Viewer};

const PATIENCE: Duration = Duration::from_secs(10);

async fn viewer() -> Viewer {
    Viewer::start(Options::on_free_ports()).await.unwrap()
}

/// A service with an exporter of its own.
struct Service(SdkTracerProvider);

impl Service {
    fn new(name: &'static str, viewer: &Viewer) -> Self {
        let endpoint = format!("http://{}", viewer.otlp_addr());
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .build()
            .unwrap();
        let instance = KeyValue::new("service.instance.id", format!("{name}-1"));
        let resource = Resource::builder_empty()
            .with_service_name(name)
            .with_attribute(instance)
            .build();
        Self(
            SdkTracerProvider::builder()
                .with_batch_exporter(exporter)
                .with_resource(resource)
                .build(),
        )
    }

    /// A span that lasts 250 ms, shaped by `shape`.
    fn span(
        &self,
        parent: Option<&SpanContext>,
        name: &'static str,
        kind: SpanKind,
        shape: impl FnOnce(&mut opentelemetry_sdk::trace::Span),
    ) -> SpanContext {
        let tracer = self.0.tracer("shop");
        let start = SystemTime::now();
        let parent = parent.map(|parent| Context::new().with_remote_span_context(parent.clone()));
        let builder = tracer.span_builder(name).with_kind(kind).with_start_time(start);
        let mut span = builder.start_with_context(&tracer, &parent.unwrap_or_default());
        shape(&mut span);
        span.end_with_timestamp(start + Duration::from_millis(250));
        span.span_context().clone()
    }

    /// Returns once the viewer has acknowledged everything.
    async fn flush(self) {
        tokio::task::spawn_blocking(move || self.0.force_flush())
            .await
            .unwrap()
            .unwrap();
    }
}

/// Jaeger's answer: status and body.
async fn get(viewer: &Viewer, path: &str) -> (u16, Value) {
    let answer = reqwest::get(format!("http://{}{path}", viewer.http_addr()))
        .await
        .unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn data(viewer: &Viewer, path: &str) -> Value {
    let (status, mut body) = get(viewer, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    body["data"].take()
}

fn id(span: &SpanContext) -> String {
    span.trace_id().to_string()
}

fn found(traces: &Value) -> Vec<&str> {
    traces
        .as_array()
        .unwrap()
        .iter()
        .map(|trace| trace["traceID"].as_str().unwrap())
        .collect()
}

fn tag<'a>(tags: &'a Value, key: &str) -> &'a Value {
    tags.as_array()
        .unwrap()
        .iter()
        .find(|tag| tag["key"] == key)
        .unwrap_or(&Value::Null)
}

/// One order through two services: `POST /v1/orders` by order, `process` by payment, which failed and is linked.
async fn place_order(viewer: &Viewer) -> (SpanContext, SpanContext, SpanContext) {
    let (order, payment) = (Service::new("order", viewer), Service::new("payment", viewer));
    let earlier = payment.span(None, "earlier", SpanKind::Internal, |_| {});
    let root = order.span(None, "POST /v1/orders", SpanKind::Server, |span| {
        span.set_attribute(KeyValue::new("http.response.status_code", 201));
        span.set_status(Status::Ok);
    });
    let process = payment.span(Some(&root), "process OrderPlaced", SpanKind::Consumer, |span| {
        span.set_attribute(KeyValue::new("messaging.message.id", "m-1"));
        span.add_link(earlier.clone(), Vec::new());
        span.add_event("retried", vec![KeyValue::new("attempt", 2)]);
        span.set_status(Status::error("declined"));
    });
    order.flush().await;
    payment.flush().await;
    (root, process, earlier)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_as_jaeger_with_what_an_exporter_sent() {
    let viewer = viewer().await;
    let (root, process, earlier) = place_order(&viewer).await;

    let trace = &data(&viewer, &format!("/api/traces/{}", id(&root))).await[0];

    assert_eq!(trace["traceID"], id(&root));
    let [first, second] = trace["spans"].as_array().unwrap().as_slice() else {
        panic!("{trace:#}")
    };
    assert_eq!(first["operationName"], "POST /v1/orders");
    assert_eq!(first["references"], json!([]));
    assert_eq!(first["duration"], 250_000);
    let status = json!({ "key": "http.response.status_code", "type": "int64", "value": 201 });
    assert_eq!(*tag(&first["tags"], "http.response.status_code"), status);
    assert_eq!(tag(&first["tags"], "span.kind")["value"], "server");
    assert_eq!(tag(&first["tags"], "otel.status_code")["value"], "OK");
    assert_eq!(tag(&first["tags"], "otel.scope.name")["value"], "shop");

    let parent = json!({ "refType": "CHILD_OF", "traceID": id(&root), "spanID": root.span_id().to_string() });
    let link = json!({ "refType": "FOLLOWS_FROM", "traceID": id(&earlier), "spanID": earlier.span_id().to_string() });
    assert_eq!(second["spanID"], process.span_id().to_string());
    assert_eq!(second["references"], json!([parent, link]));
    assert_eq!(tag(&second["tags"], "span.kind")["value"], "consumer");
    assert_eq!(tag(&second["tags"], "otel.status_code")["value"], "ERROR");
    assert_eq!(tag(&second["tags"], "otel.status_description")["value"], "declined");
    assert_eq!(
        *tag(&second["tags"], "error"),
        json!({ "key": "error", "type": "bool", "value": true })
    );
    assert_eq!(tag(&second["logs"][0]["fields"], "event")["value"], "retried");
    assert_eq!(tag(&second["logs"][0]["fields"], "attempt")["value"], 2);
    let process = &trace["processes"][second["processID"].as_str().unwrap()];
    assert_eq!(process["serviceName"], "payment");
    assert_eq!(tag(&process["tags"], "service.instance.id")["value"], "payment-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn hands_out_what_an_exporter_sent() {
    let viewer = viewer().await;
    let (root, process, earlier) = place_order(&viewer).await;

    let spans = viewer.spans(&id(&root));

    let [first, second] = spans.as_slice() else {
        panic!("{spans:#?}")
    };
    assert_eq!(
        (first.service.as_str(), first.kind, &first.parent_id),
        ("order", Kind::Server, &None)
    );
    assert_eq!(first.attributes["http.response.status_code"], "201");
    assert!(!first.is_error());
    assert_eq!(second.span_id, process.span_id().to_string());
    assert_eq!(second.parent_id, Some(root.span_id().to_string()));
    assert_eq!(second.links, [(id(&earlier), earlier.span_id().to_string())]);
    assert_eq!(second.status, trace_viewer::Status::Error("declined".into()));
    assert_eq!((second.end - second.start) / 1_000, 250_000);
    assert_eq!(second.resource["service.instance.id"], "payment-1");
    assert_eq!(second.events[0].name, "retried");
    let mut traces = viewer.traces();
    traces.sort();
    let mut expected = [id(&root), id(&earlier)];
    expected.sort();
    assert_eq!(traces, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn finds_a_trace_by_any_of_its_spans() {
    let viewer = viewer().await;
    let (root, _, earlier) = place_order(&viewer).await;
    let (order, before) = (id(&root), id(&earlier));
    let both = [order.as_str(), before.as_str()];
    let start = viewer.spans(&order)[0].start / 1_000;

    for (query, expected) in [
        ("service=order".to_owned(), &both[..1]),
        ("service=payment".to_owned(), &both),
        ("service=payment&limit=1".to_owned(), &both[..1]),
        ("service=payment&operation=earlier".to_owned(), &both[1..]),
        ("service=order&operation=earlier".to_owned(), &[]),
        (r#"service=payment&tags={"error":"true"}"#.to_owned(), &both[..1]),
        (
            r#"service=payment&tags={"attempt":"2","messaging.message.id":"m-1"}"#.to_owned(),
            &both[..1],
        ),
        (r#"service=payment&tags={"messaging.message.id":"m-2"}"#.to_owned(), &[]),
        ("service=payment&tag=service.instance.id:payment-1".to_owned(), &both),
        ("service=payment&minDuration=249.5ms&maxDuration=0.3s".to_owned(), &both),
        ("service=payment&minDuration=1m".to_owned(), &[]),
        (format!("service=order&start={start}"), &both[..1]),
        (format!("service=order&end={}", start - 1), &[]),
        ("service=payment&lookback=1h".to_owned(), &both),
        (format!("traceID={order}&traceID={before}"), &both),
    ] {
        let traces = data(&viewer, &format!("/api/traces?{query}")).await;
        assert_eq!(found(&traces), expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_services_operations_and_calls() {
    let viewer = viewer().await;
    place_order(&viewer).await;

    assert_eq!(data(&viewer, "/api/services").await, json!(["order", "payment"]));
    let names = data(&viewer, "/api/services/payment/operations").await;
    assert_eq!(names, json!(["earlier", "process OrderPlaced"]));
    let consumed = data(&viewer, "/api/operations?service=payment&spanKind=consumer").await;
    assert_eq!(
        consumed,
        json!([{ "name": "process OrderPlaced", "spanKind": "consumer" }])
    );
    let calls = json!([{ "parent": "order", "child": "payment", "callCount": 1 }]);
    assert_eq!(data(&viewer, "/api/dependencies").await, calls);
    assert_eq!(
        data(&viewer, "/api/dependencies?endTs=1000&lookback=1000").await,
        json!([])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_in_jaegers_words_when_it_cannot() {
    let viewer = viewer().await;
    let (root, ..) = place_order(&viewer).await;
    let unknown = "4bf92f3577b34da6a3ce929d0e0e4736";

    let (status, body) = get(&viewer, &format!("/api/traces/{unknown}")).await;
    assert_eq!(status, 404);
    let not_found = json!({ "data": null, "total": 0, "limit": 0, "offset": 0,
        "errors": [{ "code": 404, "msg": "trace not found" }] });
    assert_eq!(body, not_found);

    let (status, body) = get(&viewer, &format!("/api/traces?traceID={}&traceID={unknown}", id(&root))).await;
    assert_eq!((status, found(&body["data"])), (200, vec![id(&root).as_str()]));
    assert_eq!(body["errors"][0]["traceID"], unknown);

    for (path, expected) in [
        ("/api/traces/xyz", 400),
        ("/api/traces?limit=many", 400),
        ("/api/operations", 400),
        ("/api/archive", 404),
    ] {
        let (status, body) = get(&viewer, path).await;
        assert_eq!(
            (status, &body["errors"][0]["code"]),
            (expected, &json!(expected)),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forgets_the_oldest_trace_whole_when_full() {
    let viewer = Viewer::start(Options {
        capacity: 3,
        ..Options::on_free_ports()
    })
    .await
    .unwrap();
    let order = Service::new("order", &viewer);
    let oldest = order.span(None, "place", SpanKind::Server, |_| {});
    order.span(Some(&oldest), "publish", SpanKind::Producer, |_| {});
    let kept = order.span(None, "place", SpanKind::Server, |_| {});
    let latest = order.span(None, "place", SpanKind::Server, |_| {});
    order.flush().await;

    assert_eq!(viewer.traces(), [id(&kept), id(&latest)]);
    assert!(viewer.spans(&id(&oldest)).is_empty());
    assert_eq!(get(&viewer, &format!("/api/traces/{}", id(&oldest))).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_for_the_spans_of_a_trace() {
    let viewer = viewer().await;
    let (order, payment) = (Service::new("order", &viewer), Service::new("payment", &viewer));
    let root = order.span(None, "place", SpanKind::Server, |_| {});
    payment.span(Some(&root), "process", SpanKind::Consumer, |_| {});
    order.flush().await;

    let missing = viewer
        .wait_for(&id(&root), |spans| spans.len() == 2, Duration::from_millis(50))
        .await;
    let complaint = missing.unwrap_err().to_string();
    assert!(complaint.contains("order: place"), "{complaint}");

    let trace = id(&root);
    let (spans, ()) = tokio::join!(
        viewer.wait_for(&trace, |spans| spans.len() == 2, PATIENCE),
        payment.flush()
    );
    assert_eq!(spans.unwrap()[1].name, "process");
}

#[tokio::test(flavor = "multi_thread")]
async fn frees_its_ports_when_shut_down() {
    let first = viewer().await;
    let (http, otlp) = (first.http_addr(), first.otlp_addr());
    place_order(&first).await;
    first.shutdown().await;

    let again = Viewer::start(Options {
        http,
        otlp,
        ..Options::default()
    })
    .await
    .unwrap();
    assert!(again.traces().is_empty());
    place_order(&again).await;
    assert_eq!(again.traces().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_the_plain_page_where_there_is_no_other() {
    let viewer = viewer().await;
    for path in ["/", "/plain", "/trace/4bf92f3577b34da6a3ce929d0e0e4736"] {
        let page = reqwest::get(format!("http://{}{path}", viewer.http_addr()))
            .await
            .unwrap();
        assert!(page.text().await.unwrap().contains("<title>Traces</title>"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_jaegers_ui_with_its_placeholders_filled() {
    let folder = std::env::temp_dir().join(format!("jaeger-ui-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("static")).unwrap();
    std::fs::write(folder.join("index.html"), "const JAEGER_CONFIG = DEFAULT_CONFIG;").unwrap();
    std::fs::write(folder.join("static/index.js"), "1").unwrap();
    let options = Options {
        ui: Some(folder.clone()),
        ..Options::on_free_ports()
    };
    let viewer = Viewer::start(options).await.unwrap();
    let text = async |path: &str| {
        let answer = reqwest::get(format!("http://{}{path}", viewer.http_addr()))
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };

    let (_, index) = text("/search").await;
    assert!(index.contains(r#"JAEGER_CONFIG = { "archiveEnabled""#), "{index}");
    assert_eq!(text("/static/index.js").await, (200, "1".into()));
    assert_eq!(text("/static/absent.js").await.0, 404);
    assert!(text("/plain").await.1.contains("<title>Traces</title>"));
    std::fs::remove_dir_all(folder).unwrap();
}
