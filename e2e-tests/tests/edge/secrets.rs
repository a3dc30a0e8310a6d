//! What customers entrust to the shop stays where it belongs.

use e2e_tests::{PATIENCE, Service, Wish, World, run};
use serde_json::json;

use super::set;

/// Text that nobody else writes, one for each field.
const CANARIES: [(&str, &str); 6] = [
    ("/customer/email", "canary-mail@canary.example"),
    ("/ship_to/name", "Canary Name"),
    ("/ship_to/street", "7 Canary Street"),
    ("/ship_to/city", "Canary City"),
    ("/ship_to/postal_code", "CANARY-1"),
    ("/payment_method", "pm_canary_token"),
];

/// What leaves a trace: the words, whatever separates or encodes them.
fn has_canary(text: &str) -> bool {
    text.to_lowercase().contains("canary")
}

/// Orders that are paid, undeliverable and declined, and refused for each field in turn; the traces of those accepted.
async fn order_with_canaries(world: &World) -> Vec<String> {
    let mut traces = Vec::new();
    for (token, country) in [
        ("pm_card_visa", "DE"),
        ("pm_card_visa", "XX"),
        ("pm_canary_token", "DE"),
    ] {
        let mut body = Wish::of("TEA-ASSAM").paid_by(token).to(country).body();
        for (pointer, canary) in CANARIES.iter().filter(|(pointer, _)| *pointer != "/payment_method") {
            set(&mut body, pointer, json!(canary));
        }
        let url = format!("{}/v1/orders", world.shop.url(Service::Order));
        let answer = world
            .http
            .post(&url)
            .json(&body)
            .send()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(answer.status().as_u16(), 201);
        let order: serde_json::Value = answer.json().await.unwrap_or_default();
        let id = order["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_default();
        world.ended(id).await;
        traces.push(order["trace_id"].as_str().unwrap_or_default().to_owned());
        for (pointer, canary) in CANARIES {
            let mut body = body.clone();
            set(&mut body, pointer, json!(format!("{canary}\u{7}")));
            super::assert_problem(world.http.post(&url).json(&body), &[422]).await;
        }
    }
    traces
}

/// Neither its log nor what it shows its operator tells anything.
async fn is_discreet(world: &World, service: Service) {
    let log = world.shop.log(service);
    assert!(!log.is_empty() && !has_canary(&log), "the log of {service} tells");
    for path in [
        "/metrics",
        "/admin/outbox",
        "/admin/inbox",
        "/admin/consumers",
        "/admin/dead-letters",
    ] {
        let url = format!("{}{path}", world.shop.admin_url(service));
        let shown = world
            .http
            .get(url)
            .send()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        assert!(
            !has_canary(&shown.text().await.unwrap_or_default()),
            "{path} of {service} tells"
        );
    }
}

/// Row 46: names, addresses, e-mail addresses and payment tokens occur in no log, no span, no metric and no list of the
/// operator, whether the order succeeds, is refused, or fails.
#[test]
fn what_customers_entrust_to_us_is_nowhere_to_be_read() {
    run(async {
        let world = World::open(&[]).await;
        let traces = order_with_canaries(&world).await;
        world.drained().await.unwrap_or_else(|error| panic!("{error:#}"));
        for service in Service::ALL {
            is_discreet(&world, service).await;
        }
        for trace in traces {
            assert!(!trace.is_empty());
            let arrived = world.viewer.wait_for(&trace, |spans| spans.len() > 10, PATIENCE).await;
            let spans = arrived.unwrap_or_else(|error| panic!("{error:#}"));
            assert!(!has_canary(&format!("{spans:?}")), "a span of {trace} tells");
        }
    });
}
