//! Deliveries that a broker may make: twice, and in another order.

use std::collections::BTreeMap;

use anyhow::Context as _;
use e2e_tests::{Service, TELLERS, Wish, World, run};
use sqlx::Row;

/// Row 18: every event of every stream is delivered a second time to everybody, and nothing moves.
#[test]
fn events_delivered_again_and_backwards_change_nothing() {
    run(async {
        let world = World::open(&[]).await;
        let wishes = [
            Wish::of("TEA-ASSAM"),
            Wish::of("TEA-ASSAM").paid_by("pm_card_chargeDeclined"),
            Wish::of("TEA-ASSAM").to("XX"),
        ];
        for wish in &wishes {
            let id = world.place(wish).await;
            world.ended(id).await;
        }
        world.audit().await;
        let before = everything(&world).await.unwrap_or_else(|error| panic!("{error:#}"));
        let redelivered = redeliver(&world).await.unwrap_or_else(|error| panic!("{error:#}"));
        assert!(redelivered > 50, "only {redelivered} deliveries were repeated");
        world.audit().await;
        let after = everything(&world).await.unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(before, after);
    });
}

/// Deletes and recreates every durable, which makes the broker deliver everything again, and waits
/// until all of it was recognised.
async fn redeliver(world: &World) -> anyhow::Result<u64> {
    world.deliver_everything_again().await?;
    let mut repeated = 0;
    for service in Service::ALL {
        let url = format!("{}/admin/consumers", world.shop.admin_url(service));
        let what = format!("{service} has seen everything again");
        let handled = world.until(&what, || async {
            let lags: serde_json::Value = world.http.get(&url).send().await?.json().await?;
            let idle = |lag: &serde_json::Value| lag["pending"] == 0 && lag["unacknowledged"] == 0;
            let lags = lags.as_array().context("no lags")?;
            Ok(lags
                .iter()
                .all(idle)
                .then(|| lags.iter().filter_map(|lag| lag["delivered"].as_u64()).sum::<u64>()))
        });
        repeated += handled.await?;
    }
    Ok(repeated)
}

/// Row counts and states that any second effect would change.
pub(crate) async fn everything(world: &World) -> anyhow::Result<BTreeMap<String, String>> {
    let looks = [
        (
            Service::Order,
            "select coalesce(string_agg(id || state || version, ',' order by id), '') from orders",
        ),
        (Service::Order, "select count(*)::text from timeline"),
        (
            Service::Payment,
            "select coalesce(string_agg(order_id::text || type, ',' order by order_id, version), '') from payment_events",
        ),
        (Service::Payment, "select count(*) || '/' || sum(debit) from ledger"),
        (
            Service::Inventory,
            "select string_agg(sku || on_hand || '/' || reserved || '/' || revision, ',' order by sku) from products",
        ),
        (
            Service::Inventory,
            "select count(*) || '/' || sum(delta) from stock_movements",
        ),
        (
            Service::Warehouse,
            "select string_agg(order_id || state, ',' order by order_id) from shipments",
        ),
        (
            Service::Warehouse,
            "select coalesce(string_agg(return_id || state, ',' order by return_id), '') from returns",
        ),
        (
            Service::Payment,
            "select coalesce(string_agg(return_id || state || attempts, ',' order by return_id), '') from return_refunds",
        ),
        (
            Service::Email,
            "select string_agg(order_id || template || state, ',' order by order_id, template) from notifications",
        ),
    ];
    let mut seen = BTreeMap::new();
    for (service, query) in looks {
        let row = sqlx::query(query).fetch_one(&world.pool(service).await?).await?;
        seen.insert(query.to_owned(), row.try_get::<String, _>(0)?);
    }
    for service in TELLERS {
        let query = "select coalesce(max(sequence), 0)::text || '/' || count(*) from outbox_sequence";
        let row = sqlx::query(query).fetch_one(&world.pool(service).await?).await?;
        seen.insert(format!("{service}: events told"), row.try_get::<String, _>(0)?);
    }
    let summary = world.get(Service::Analytics, "/v1/summary").await?;
    seen.insert(
        "analytics".into(),
        format!(
            "{} {} {}",
            summary["orders_placed"], summary["orders_completed"], summary["revenue"]
        ),
    );
    Ok(seen)
}
