//! A broker of three servers that loses some of them while customers buy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use e2e_tests::{Service, Wish, World, run};
use futures_util::future::join_all;
use reqwest::Client;
use testbed::{Cluster, Nats};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::faults::all_end_well;
use crate::rollouts::every_subject_is_in_order;

const SKUS: [&str; 4] = ["TEA-ASSAM", "TEA-DARJEELING", "TEA-SENCHA", "TEA-JASMINE"];
/// How long a server is away at least: longer than an election may take.
const AWAY: Duration = Duration::from_secs(10);
/// Orders that are placed meanwhile at least.
const MEANWHILE: usize = 20;

/// Four customers who place one order after the other, each once: whatever is not an order is a complaint.
struct Customers {
    placed: Arc<Mutex<Vec<Uuid>>>,
    gone: Arc<AtomicBool>,
    shopping: JoinHandle<Vec<String>>,
}

impl Customers {
    fn of(world: &World) -> Self {
        let (placed, gone) = (Arc::default(), Arc::default());
        let url = format!("{}/v1/orders", world.shop.url(Service::Order));
        let one = |sku| {
            customer(
                sku,
                world.http.clone(),
                url.clone(),
                Arc::clone(&placed),
                Arc::clone(&gone),
            )
        };
        let all = join_all(SKUS.map(one));
        let shopping = tokio::spawn(async { all.await.into_iter().flatten().collect() });
        Self { placed, gone, shopping }
    }

    async fn placed(&self) -> usize {
        self.placed.lock().await.len()
    }

    /// Sends them home; everything that they have ordered, provided that none has a complaint.
    async fn leave(self) -> Vec<Uuid> {
        self.gone.store(true, Ordering::Relaxed);
        let complaints = self.shopping.await.unwrap_or_else(|error| panic!("{error}"));
        let placed = self.placed.lock().await.clone();
        assert!(complaints.is_empty(), "beside {} orders: {complaints:#?}", placed.len());
        placed
    }
}

async fn customer(
    sku: &str,
    http: Client,
    url: String,
    placed: Arc<Mutex<Vec<Uuid>>>,
    gone: Arc<AtomicBool>,
) -> Vec<String> {
    let (wish, mut complaints) = (Wish::of(sku).body(), Vec::new());
    while !gone.load(Ordering::Relaxed) {
        let asked = Instant::now();
        match order(&http, &url, &wish).await {
            Ok(id) => placed.lock().await.push(id),
            Err(error) => complaints.push(format!("{error:#}")),
        }
        // At the pace of people, so that three servers and all services fit on a small machine.
        tokio::time::sleep(asked.elapsed().max(Duration::from_millis(300))).await;
    }
    complaints
}

async fn order(http: &Client, url: &str, wish: &serde_json::Value) -> anyhow::Result<Uuid> {
    let answer = http.post(url).json(wish).send().await?;
    let (status, body) = (answer.status(), answer.text().await?);
    ensure!(status.as_u16() == 201, "{status}: {body}");
    let order: serde_json::Value = serde_json::from_str(&body)?;
    Ok(order["id"].as_str().unwrap_or_default().parse()?)
}

/// Waits until orders were placed for so long as a server is to be away.
async fn customers_go_on(world: &World, customers: &Customers) {
    let (since, before) = (Instant::now(), customers.placed().await);
    let gone_on = world.until("orders are placed all the while", || async {
        Ok((since.elapsed() > AWAY && customers.placed().await > before + MEANWHILE).then_some(()))
    });
    gone_on.await.unwrap_or_else(|error| panic!("{error:#}"));
}

/// Waits until an order is at its end that is placed only now.
async fn an_order_ends(world: &World, customers: &Customers) {
    let before = customers.placed().await;
    let next = world.until("one more order is placed", || async {
        Ok(customers.placed.lock().await.get(before).copied())
    });
    let next = next.await.unwrap_or_else(|error| panic!("{error:#}"));
    world.ended(next).await;
}

async fn leader<'a>(brokers: &'a Cluster, stream: &str) -> &'a Nats {
    let leader = brokers.leader_of(stream).await;
    &brokers.servers()[leader.unwrap_or_else(|error| panic!("{error:#}"))]
}

fn done(outcome: anyhow::Result<()>) {
    outcome.unwrap_or_else(|error| panic!("{error:#}"));
}

/// All of them come to their end, each event is in its stream once and in its place, and every invariant holds.
async fn nothing_is_lost_or_doubled(world: &World, placed: Vec<Uuid>) {
    let orders = placed.len();
    all_end_well(world, placed).await;
    done(every_subject_is_in_order(world, "ORDER", orders).await);
}

/// Row 12: the server that leads the stream of orders is killed under load and stays away, comes back, and then its
/// successor is killed: no customer notices, orders come to their end meanwhile, and nothing is lost or doubled.
#[test]
fn the_leader_of_the_brokers_is_killed_and_so_is_the_next_and_no_customer_notices() {
    run(async {
        let world = World::open_clustered().await;
        let (brokers, customers) = (world.shop.brokers(), Customers::of(&world));
        for _ in 0..2 {
            let leader = leader(brokers, "ORDER").await;
            done(leader.kill().await);
            customers_go_on(&world, &customers).await;
            an_order_ends(&world, &customers).await;
            done(leader.restart().await);
            done(brokers.healthy().await);
        }
        nothing_is_lost_or_doubled(&world, customers.leave().await).await;
    });
}

/// Row 12: a leader that is frozen until another was elected, and wakes up as a leader of nobody, harms nothing.
#[test]
fn a_leader_of_the_brokers_that_comes_back_from_the_dead_harms_nothing() {
    run(async {
        let world = World::open_clustered().await;
        let (brokers, customers) = (world.shop.brokers(), Customers::of(&world));
        let leader = leader(brokers, "ORDER").await;
        done(leader.pause().await);
        customers_go_on(&world, &customers).await;
        an_order_ends(&world, &customers).await;
        done(leader.resume().await);
        done(brokers.healthy().await);
        an_order_ends(&world, &customers).await;
        nothing_is_lost_or_doubled(&world, customers.leave().await).await;
    });
}

/// Row 12: while two of three servers are away nothing can be published; orders are taken all the same, and are finished
/// when the two are back.
#[test]
fn orders_are_taken_while_most_of_the_brokers_are_away() {
    run(async {
        let world = World::open_clustered().await;
        let (brokers, customers) = (world.shop.brokers(), Customers::of(&world));
        an_order_ends(&world, &customers).await;
        let (away, _) = brokers.servers().split_at(2);
        for server in away {
            done(server.kill().await);
        }
        customers_go_on(&world, &customers).await;
        assert!(backlog(&world).await > 0, "orders are placed, and no event waits");
        for server in away {
            done(server.restart().await);
        }
        done(brokers.healthy().await);
        nothing_is_lost_or_doubled(&world, customers.leave().await).await;
    });
}

/// How many events of the order service wait for the broker; it says that it is still there for customers.
async fn backlog(world: &World) -> u64 {
    let ask = async |path: &str| {
        let url = format!("{}/{path}", world.shop.admin_url(Service::Order));
        let answer = world.http.get(url).send().await;
        answer.unwrap_or_else(|error| panic!("{error}"))
    };
    assert_eq!(ask("readyz").await.status(), 200, "it takes requests");
    let outbox: serde_json::Value = ask("admin/outbox").await.json().await.unwrap_or_default();
    outbox["depth"].as_u64().unwrap_or_default()
}
