//! A service whose contract does not fit those in use refuses to start, and says to whom it does not fit.

use std::process::{Output, Stdio};

use async_nats::jetstream;
use e2e_tests::{PATIENCE, Service, Wish, World, run};
use events::contract::Contract;
use events::{Event, OrderPlaced};
use messaging::registry::{self, Registered};
use serde_json::json;
use tokio::process::{Child, Command};

const REFUSAL: &str =
    "order cannot start: it does not send `customer.phone` of OrderPlaced.v1, which forecasts requires";

/// Somebody who hears placed orders as they are.
fn modest() -> Contract {
    Contract::of(None, [OrderPlaced::TYPE])
}

/// The same, who wants the customer's telephone number as well.
fn demanding() -> Contract {
    let mut contract = modest();
    for schema in contract.accepts.values_mut() {
        let customer = &mut schema["properties"]["customer"];
        customer["properties"]["phone"] = json!({ "type": "string" });
        customer["required"]
            .as_array_mut()
            .into_iter()
            .for_each(|required| required.push(json!("phone")));
    }
    contract
}

/// A shop whose order service is stopped, while somebody has registered who expects more than it sends.
async fn disagreeing() -> anyhow::Result<(World, jetstream::Context)> {
    let world = World::open(&[]).await;
    let jetstream = world.jetstream().await?;
    world.shop.stop_service(Service::Order).await?;
    assert!(registry::retire(&jetstream, "order").await?, "it had registered");
    let registered = registry::register(&jetstream, "forecasts", &demanding()).await?;
    assert_eq!(
        registered,
        Registered::Compatible,
        "nobody sends placed orders just now"
    );
    Ok((world, jetstream))
}

/// The real program, by hand, as the shop would start it.
fn order_service(world: &World) -> anyhow::Result<Child> {
    let test = std::env::current_exe()?;
    let built = test.ancestors().nth(2).map(|folder| folder.join("order"));
    let address = |url: String| url.trim_start_matches("http://").to_owned();
    let order = Command::new(built.unwrap_or_default())
        .env("DATABASE_URL", world.shop.own_database_url(Service::Order))
        .env("MIGRATE", "false")
        .env("NATS_URL", world.shop.own_nats_url(Service::Order))
        .env("HTTP_ADDR", address(world.shop.url(Service::Order)))
        .env("ADMIN_ADDR", address(world.shop.admin_url(Service::Order)))
        .env("INVENTORY_URL", world.shop.url(Service::Inventory))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    Ok(order?)
}

async fn refused(order: Child) -> anyhow::Result<Output> {
    let output = tokio::time::timeout(PATIENCE, order.wait_with_output()).await??;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains(REFUSAL),
        "{}: {said}",
        output.status
    );
    Ok(output)
}

/// The demand is taken back, and the shop is as it was.
async fn reconciled(world: &World, jetstream: &jetstream::Context) -> anyhow::Result<()> {
    let registered = registry::register(jetstream, "forecasts", &modest()).await?;
    assert_eq!(registered, Registered::Compatible);
    world.shop.start_service(Service::Order).await?;
    let id = world.place(&Wish::of("TEA-ASSAM")).await;
    assert_eq!(world.ended(id).await["state"], "COMPLETED");
    Ok(())
}

/// Row 22: a service that sends less than somebody in use expects ends with a sentence, changes nothing, and starts
/// once they agree.
#[test]
fn a_service_does_not_start_beside_a_contract_that_it_breaks() {
    run(async {
        let (world, jetstream) = disagreeing().await?;
        let before = registry::in_use(&jetstream).await?;
        refused(order_service(&world)?).await?;
        assert_eq!(registry::in_use(&jetstream).await?, before);

        reconciled(&world, &jetstream).await?;
        let admin = format!("{}/admin/schemas", world.shop.admin_url(Service::Order));
        let contract: serde_json::Value = world.http.get(admin).send().await?.json().await?;
        let users = json!(["analytics", "email", "forecasts", "inventory"]);
        assert_eq!(contract["emits"]["OrderPlaced.v1"]["used_by"], users);
        assert_eq!(
            contract["accepts"]["PaymentSucceeded.v1"]["used_by"],
            json!(["payment"])
        );
        anyhow::Ok(())
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
}

/// Row 11: a registry that was lost is filled again by those who run.
#[test]
fn who_runs_is_registered_again_after_the_registry_was_lost() {
    run(async {
        let world = World::open(&[]).await;
        let jetstream = world.jetstream().await?;
        let before = world.until("everybody is registered", || async {
            let in_use = registry::in_use(&jetstream).await?;
            Ok((in_use.len() == Service::ALL.len()).then_some(in_use))
        });
        let before = before.await?;
        jetstream.delete_key_value(registry::BUCKET).await?;
        world.provision().await?;
        let after = world.until("everybody is registered again", || async {
            let in_use = registry::in_use(&jetstream).await?;
            Ok((in_use.len() == Service::ALL.len()).then_some(in_use))
        });
        assert_eq!(after.await?, before);
        anyhow::Ok(())
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
}

/// Rows 9, 22: without the broker nobody can be asked: orders are taken, and nothing is told before everybody agrees.
#[test]
fn a_service_takes_orders_without_the_broker_and_compares_contracts_once_it_is_there() {
    run(async {
        let (world, jetstream) = disagreeing().await?;
        world.shop.nats().stop().await?;
        let order = order_service(&world)?;
        let id = world.place_stubbornly(&Wish::of("TEA-ASSAM")).await?;
        world.shop.nats().restart().await?;
        refused(order).await?;
        let pool = world.pool(Service::Order).await?;
        let waiting: i64 = sqlx::query_scalar("select count(*) from outbox where subject = $1")
            .bind(id.to_string())
            .fetch_one(&pool)
            .await?;
        assert_eq!(waiting, 1, "nothing was told under a contract that breaks another");

        reconciled(&world, &jetstream).await?;
        assert_eq!(world.ended(id).await["state"], "COMPLETED");
        anyhow::Ok(())
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
}
