//! The standard variables say what is recorded, of an order all or nothing.

use anyhow::ensure;
use e2e_tests::{PATIENCE, Service, Wish, World, run};
use reqwest::StatusCode;
use serde_json::Value;
use uuid::Uuid;

use super::{SERVICES, services};

#[test]
fn an_order_is_recorded_by_all_services_or_by_none() -> anyhow::Result<()> {
    run(async {
        let env = Service::ALL.map(|service| (service, "OTEL_TRACES_SAMPLER", "parentbased_always_off"));
        let world = World::open(&env).await;
        let unseen = world.place(&Wish::of("TEA-ASSAM")).await;
        let unseen = world.ended(unseen).await["trace_id"].clone();

        let trace = Uuid::now_v7().simple().to_string();
        let url = format!("{}/v1/orders", world.shop.url(Service::Order));
        let asked = world
            .http
            .post(url)
            .header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"))
            .json(&Wish::of("TEA-ASSAM").body());
        let answer = asked.send().await?;
        ensure!(answer.status() == StatusCode::CREATED);
        let order: Value = answer.json().await?;
        ensure!(order["trace_id"] == trace, "{order}");
        let seen = world
            .viewer
            .wait_for(&trace, |spans| services(spans) == SERVICES.into(), PATIENCE);
        seen.await?;
        let unseen = unseen.as_str().unwrap_or_default();
        ensure!(unseen.len() == 32 && world.viewer.spans(unseen).is_empty(), "{unseen}");
        Ok(())
    })
}
