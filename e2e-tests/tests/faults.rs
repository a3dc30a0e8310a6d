//! What happens when something dies: nothing is lost, nothing happens twice.

use std::time::Duration;

use e2e_tests::{Service, Wish, World, run};
use futures_util::stream::{self, StreamExt};
use uuid::Uuid;

const SKUS: [&str; 4] = ["TEA-ASSAM", "TEA-DARJEELING", "TEA-SENCHA", "TEA-JASMINE"];

/// Orders of every kind, as a careful client sends them: again and again until there is an answer.
fn wish(number: usize) -> Wish {
    let wish = Wish::of(SKUS[number % SKUS.len()]);
    match number % 10 {
        3 => wish.paid_by("pm_card_chargeDeclined"),
        6 => wish.to("XX"),
        9 => wish.paid_by("pm_card_timeoutAfterCharge"),
        _ => wish,
    }
}

/// Sends `orders` at fifty a second, while `meanwhile` breaks something.
pub(crate) async fn under_load(
    world: &World,
    orders: usize,
    meanwhile: impl Future<Output = anyhow::Result<()>>,
) -> Vec<Uuid> {
    let ticks = tokio::time::interval(Duration::from_millis(20));
    let paced = stream::unfold((ticks, 0), |(mut ticks, number)| async move {
        ticks.tick().await;
        Some((number, (ticks, number + 1)))
    });
    let placed = paced
        .take(orders)
        .map(|number| async move { world.place_stubbornly(&wish(number)).await })
        .buffer_unordered(200)
        .collect::<Vec<_>>();
    let (placed, broke) = futures_util::future::join(placed, meanwhile).await;
    broke.unwrap_or_else(|error| panic!("{error:#}"));
    placed
        .into_iter()
        .map(|id| id.unwrap_or_else(|error| panic!("an order was never accepted: {error:#}")))
        .collect()
}

/// Waits until so many orders were accepted.
pub(crate) async fn accepted(world: &World, orders: i64) -> anyhow::Result<()> {
    let pool = world.pool(Service::Order).await?;
    let what = format!("{orders} orders are accepted");
    let looked = world.until(&what, || async {
        let known: i64 = sqlx::query_scalar("select count(*) from orders")
            .fetch_one(&pool)
            .await?;
        Ok((known >= orders).then_some(()))
    });
    looked.await
}

pub(crate) async fn all_end_well(world: &World, placed: Vec<Uuid>) {
    for id in &placed {
        world.ended(*id).await;
    }
    let order = world
        .pool(Service::Order)
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
    let known: i64 = sqlx::query_scalar("select count(*) from orders")
        .fetch_one(&order)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        known as usize,
        placed.len(),
        "every accepted order exists, and no other"
    );
    world.audit().await;
}

/// Kills each service in turn with -9 under load, and starts it again a moment later.
#[test]
fn any_service_killed_under_load_and_started_again_loses_and_doubles_nothing() {
    run(async {
        let world = World::open(&[]).await;
        let killing = async {
            for service in Service::ALL {
                tokio::time::sleep(Duration::from_millis(700)).await;
                world.shop.kill(service).await?;
                tokio::time::sleep(Duration::from_millis(300)).await;
                world.shop.start_service(service).await?;
            }
            Ok(())
        };
        let placed = under_load(&world, 250, killing).await;
        all_end_well(&world, placed).await;
    });
}

/// Row 9: a broker that is killed under load and comes back, twice, has lost nothing, and every order is accepted.
#[test]
fn a_broker_killed_under_load_and_started_again_loses_nothing_and_refuses_nobody() {
    run(async {
        let world = World::open(&[]).await;
        let killing = async {
            for _ in 0..2 {
                tokio::time::sleep(Duration::from_millis(800)).await;
                world.shop.nats().kill().await?;
                tokio::time::sleep(Duration::from_millis(800)).await;
                world.shop.nats().restart().await?;
            }
            Ok(())
        };
        let placed = under_load(&world, 150, killing).await;
        all_end_well(&world, placed).await;
    });
}

/// Row 13: all six databases stop at once under load and start again, and nothing is lost.
#[test]
fn databases_that_stop_at_once_and_start_again_lose_nothing() {
    run(async {
        let world = World::open(&[]).await;
        let stopping = async {
            accepted(&world, 40).await?;
            world.shop.postgres().kill().await?;
            world.shop.postgres().restart().await?;
            Ok(())
        };
        let placed = under_load(&world, 100, stopping).await;
        all_end_well(&world, placed).await;
    });
}

/// Row 28: a gateway that is killed under load and comes back finds what it charged under the same keys, and charges
/// nobody twice.
#[test]
fn a_gateway_killed_under_load_and_started_again_charges_nobody_twice() {
    run(async {
        let world = World::open(&[]).await;
        let killing = async {
            accepted(&world, 40).await?;
            world.shop.kill_gateway().await?;
            accepted(&world, 65).await?;
            world.shop.start_gateway().await
        };
        let placed = under_load(&world, 100, killing).await;
        all_end_well(&world, placed).await;
    });
}

#[test]
fn orders_are_taken_while_inventory_is_down_and_finished_when_it_is_back() {
    run(async {
        let world = World::open(&[]).await;
        world
            .shop
            .kill(Service::Inventory)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        let mut placed = Vec::new();
        for number in 0..10 {
            let (status, order) = world.order_once(&wish(number)).await.unwrap_or_default();
            assert_eq!(
                (status.as_u16(), order["stock_check"].as_str()),
                (201, Some("skipped")),
                "{order}"
            );
            placed.extend(order["id"].as_str().and_then(|id| id.parse::<Uuid>().ok()));
        }
        world
            .shop
            .start_service(Service::Inventory)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        all_end_well(&world, placed).await;
    });
}
