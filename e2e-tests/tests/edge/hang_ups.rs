//! Clients that are gone before their answer.

use std::time::Duration;

use e2e_tests::{Service, Wish, World, run};
use futures_util::stream::{self, StreamExt};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::set;

/// Begins to place an order, and hangs up after some bytes or some time.
async fn hang_up(address: &str, body: &str, number: usize, usual: Duration) -> std::io::Result<()> {
    let request = format!(
        "POST /v1/orders HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = TcpStream::connect(address).await?;
    // Every tenth is cut short; the others have said all and leave somewhere on the way to their answer.
    let said = if number.is_multiple_of(10) {
        request.len() * (number % 97) / 97
    } else {
        request.len()
    };
    socket.write_all(&request.as_bytes()[..said]).await?;
    // Random moments are what this is about.
    tokio::time::sleep(usual * ((number as u32 * 7_919) % 3_000) / 1_000).await;
    Ok(())
}

/// Row 8: after a thousand clients have hung up at any moment, no session is left in a transaction, every order that
/// exists is whole, and no later order is lost.
#[test]
fn a_thousand_clients_hang_up() {
    run(async {
        let world = World::open(&[]).await;
        let address = world.shop.url(Service::Order).replace("http://", "");
        let skus = ["TEA-ASSAM", "TEA-DARJEELING", "TEA-SENCHA", "TEA-JASMINE"];
        let customer = Uuid::now_v7().to_string();
        let body = |number: usize| {
            let mut body = Wish::of(skus[number % skus.len()]).body();
            set(&mut body, "/customer/id", json!(customer));
            body.to_string()
        };
        let usual = answer_time(&world).await;
        let gone: Vec<std::io::Result<()>> = stream::iter(0..1_000)
            .map(|number| {
                let (body, address) = (body(number), address.clone());
                async move { hang_up(&address, &body, number, usual).await }
            })
            .buffer_unordered(50)
            .collect()
            .await;
        assert!(gone.iter().all(Result::is_ok), "the service refused a connection");

        for number in 0..100 {
            let id = world.place(&Wish::of(skus[number % skus.len()])).await;
            assert_eq!(
                world.order(id).await.unwrap_or_default()["id"],
                id.to_string(),
                "a later order was lost"
            );
        }
        no_transaction_is_left_open(&world).await;
        every_order_is_whole(&world).await;
        world.audit().await;
    });
}

/// How long an order takes to be answered here, with as many at a time as will hang up.
async fn answer_time(world: &World) -> Duration {
    let started = tokio::time::Instant::now();
    let wish = Wish::of("TEA-ASSAM");
    futures_util::future::join_all((0..50).map(|_| world.place(&wish))).await;
    started.elapsed()
}

async fn no_transaction_is_left_open(world: &World) {
    let pool = world
        .pool(Service::Order)
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
    let open = "select count(*) from pg_stat_activity where state like 'idle in transaction%'";
    let looked = world.until("no session is idle in a transaction", || async {
        let open: i64 = sqlx::query_scalar(open).fetch_one(&pool).await?;
        Ok((open == 0).then_some(()))
    });
    looked.await.unwrap_or_else(|error| panic!("{error:#}"));
}

/// Every order has told that it was placed, once, and nobody was told of an order that does not exist.
async fn every_order_is_whole(world: &World) {
    let pool = world
        .pool(Service::Order)
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
    world.drained().await.unwrap_or_else(|error| panic!("{error:#}"));
    let told = "select count(*) from (
            select subject from outbox_published where event_type like '%OrderPlaced%'
            group by subject having count(distinct event_id) = 1) t";
    let told: i64 = sqlx::query_scalar(told).fetch_one(&pool).await.unwrap_or(-1);
    let orders: i64 = sqlx::query_scalar("select count(*) from orders")
        .fetch_one(&pool)
        .await
        .unwrap_or(-2);
    assert_eq!(told, orders);
    // A hundred and fifty waited for their answer; of the others, some left too early and some too late.
    assert!(
        (200..1_150).contains(&orders),
        "they left at much the same moment: {orders}"
    );
}
