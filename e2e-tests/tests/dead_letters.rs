//! A message that kills every process that handles it, and the operator who has the last word.

use std::time::Duration;

use anyhow::Context as _;
use e2e_tests::{Service, Wish, World, run};
use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;
use xtask::shop::Shop;

const POISONED: &str = messaging::fault_points::POISONED;
/// So often the broker delivers before it gives up: as in production, so that what holds here holds there.
const DELIVERIES: i64 = 20;

/// Row 7: an order that aborts inventory each time ends as a dead letter, takes no other with it, and is finished by a redrive.
#[test]
fn an_order_that_kills_whoever_handles_it_is_buried_alone_and_redriven() {
    run(async {
        let world = World::open_impatient(Duration::from_millis(500), DELIVERIES).await;
        scenario(&world).await.unwrap_or_else(|error| panic!("{error:#}"));
        world.audit().await;
    });
}

async fn scenario(world: &World) -> anyhow::Result<()> {
    // All of them wait in the stream, so that they are delivered as neighbours.
    world.shop.kill(Service::Inventory).await?;
    let wish = Wish::of("TEA-ASSAM");
    let placed = join_all((0..40).map(|_| world.place(&wish))).await;
    let poisoned = placed[17];
    world.shop.arm(Service::Inventory, POISONED, &poisoned.to_string())?;

    let letter = buried(world, poisoned).await?;
    assert_eq!(letter["subject"], poisoned.to_string());
    assert_eq!(letter["attempts"], DELIVERIES + 1);
    assert_eq!(letter["reason"], "redriven, and never with an outcome");
    for id in placed.iter().filter(|id| **id != poisoned) {
        let order = world.ended(*id).await;
        assert_eq!(order["state"], "COMPLETED", "{order}");
    }
    assert_eq!(letters(world).await?.len(), 1, "no neighbour is a dead letter");
    assert_eq!(world.order(poisoned).await?["state"], "PENDING");

    world.shop.disarm(Service::Inventory, POISONED);
    let event_id = letter["event_id"].as_str().context("no event id")?;
    let redrive = format!("{}/admin/dead-letters/{event_id}/redrive", admin(&world.shop));
    for _ in 0..2 {
        let asked = world.http.post(&redrive).json(&json!({ "by": "ada" })).send().await?;
        // The second may find it handled.
        assert!([202, 409].contains(&asked.status().as_u16()), "{}", asked.text().await?);
    }
    assert_eq!(world.ended(poisoned).await["state"], "COMPLETED");
    let letter: Value = world
        .http
        .get(redrive.trim_end_matches("/redrive"))
        .send()
        .await?
        .json()
        .await?;
    let history = letter["history"].as_array().context("no history")?;
    let history: Vec<_> = history.iter().map(|action| (&action["who"], &action["what"])).collect();
    assert_eq!(
        history,
        [
            (&json!("inventory"), &json!("redrive")),
            (&json!("inventory"), &json!("failed")),
            (&json!("ada"), &json!("redrive")),
            (&json!("inventory"), &json!("handled"))
        ]
    );
    assert_eq!(letter["payload"]["order_id"], poisoned.to_string());
    Ok(())
}

/// Starts inventory again each time it has died, until its dead letters name the order.
async fn buried(world: &World, order: Uuid) -> anyhow::Result<Value> {
    world
        .until("the poisoned order is a dead letter", || async {
            world.shop.revive().await?;
            let letters = letters(world).await?;
            Ok(letters
                .into_iter()
                .find(|letter| letter["subject"] == order.to_string() && letter["state"] == "dead"))
        })
        .await
}

async fn letters(world: &World) -> anyhow::Result<Vec<Value>> {
    let page = world
        .http
        .get(format!("{}/admin/dead-letters", admin(&world.shop)))
        .send()
        .await?;
    let mut page: Value = page.error_for_status()?.json().await?;
    Ok(page["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

fn admin(shop: &Shop) -> String {
    shop.admin_url(Service::Inventory)
}
