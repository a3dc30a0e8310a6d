//! What the services show, as they run: trace ids, and an order that is followed.

use std::time::Duration;

use e2e_tests::{Service, Wish, World, run};
use reqwest::Method;
use serde_json::Value;

#[test]
fn every_answer_of_every_listener_has_a_trace_id() {
    run(async {
        let world = World::shared().await;
        let public = [
            "/openapi.json",
            "/problems/not-found",
            "/problems/unheard-of",
            "/nothing",
            "/v1/orders?limit=0",
        ];
        let private = [
            "/livez",
            "/readyz",
            "/metrics",
            "/admin/outbox",
            "/admin/dead-letters",
            "/admin/nothing",
        ];
        for service in Service::ALL {
            let public = public.map(|path| format!("{}{path}", world.shop.url(service)));
            let private = private.map(|path| format!("{}{path}", world.shop.admin_url(service)));
            for url in public.iter().chain(&private) {
                for method in [Method::GET, Method::POST, Method::DELETE] {
                    let answer = world.http.request(method.clone(), url).send().await.unwrap();
                    let id = answer
                        .headers()
                        .get("trace-id")
                        .map(|id| id.to_str().unwrap().to_owned());
                    assert_eq!(id.map(|id| id.len()), Some(32), "{method} {url}: {}", answer.status());
                }
            }
        }
    });
}

#[test]
fn an_order_can_be_followed_from_its_first_state_to_its_last() {
    run(async {
        let world = World::shared().await;
        let id = world.place(&Wish::of("TEA-ASSAM")).await;
        let url = format!("{}/v1/orders/{id}/events", world.shop.url(Service::Order));
        let request = world.http.get(url).timeout(Duration::from_secs(120));
        let text = request.send().await.unwrap().text().await.unwrap();
        let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let states: Vec<String> = events
            .map(|event| {
                serde_json::from_str::<Value>(event).unwrap()["state"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        assert_eq!(states, ["PENDING", "RESERVED", "CONFIRMED", "SHIPPED", "COMPLETED"]);
    });
}
