//! Nothing is sold twice.

use e2e_tests::{Service, Wish, World, run};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

/// Row 30: of five hundred buyers of a hundred pieces exactly a hundred get one, and nobody else pays.
#[test]
fn five_hundred_buyers_of_a_hundred_pieces_get_exactly_a_hundred() {
    run(async {
        let world = World::open(&[]).await;
        let product = format!("{}/v1/products/rare-cup", world.shop.url(Service::Inventory));
        let listed = json!({ "name": "A rare cup", "price": 9_900, "currency": "EUR" });
        assert!(
            world
                .http
                .put(&product)
                .json(&listed)
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success())
        );
        let filled = json!({ "delta": 100, "reason": "delivery" });
        let filled = world.http.post(format!("{product}/stock")).json(&filled).send().await;
        assert!(filled.is_ok_and(|answer| answer.status().is_success()));

        let wish = Wish::of("rare-cup");
        let buyers = stream::iter(0..500)
            .map(|_| world.order_once(&wish))
            .buffer_unordered(100);
        let answers: Vec<_> = buyers.collect().await;
        let accepted: Vec<uuid::Uuid> = answers
            .iter()
            .filter_map(|answer| answer.as_ref().ok())
            .filter(|(status, _)| status.as_u16() == 201)
            .filter_map(|(_, body)| body["id"].as_str()?.parse().ok())
            .collect();
        let refused = answers
            .iter()
            .filter_map(|a| a.as_ref().ok())
            .filter(|(status, _)| status.as_u16() == 409)
            .count();
        assert_eq!(accepted.len() + refused, 500, "every buyer gets a yes or a no");

        let ends: Vec<Value> = join_all(accepted.iter().map(|id| world.ended(*id))).await;
        let count = |state: &str| ends.iter().filter(|order| order["state"] == state).count();
        assert_eq!(
            (count("COMPLETED"), count("COMPLETED") + count("CANCELLED")),
            (100, accepted.len())
        );
        assert!(
            ends.iter()
                .filter(|order| order["state"] == "CANCELLED")
                .all(|order| order["reason"] == "OUT_OF_STOCK")
        );
        let cup = world
            .get(Service::Inventory, "/v1/products/rare-cup")
            .await
            .unwrap_or_default();
        assert_eq!((&cup["on_hand"], &cup["reserved"]), (&json!(0), &json!(0)));
        world.audit().await;
    });
}
