//! Two replicas of every service, as behind a load balancer: restarts that nobody notices, and one that comes back
//! from the dead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::pull;
use e2e_tests::{Service, TELLERS, Wish, World, run};
use futures_util::StreamExt;
use reqwest::Client;
use uuid::Uuid;
use xtask::shop::Replica;

const SKUS: [&str; 4] = ["TEA-ASSAM", "TEA-DARJEELING", "TEA-SENCHA", "TEA-JASMINE"];

/// Shares requests out between replicas that say they are ready, and passes every failure on but a refused connection.
struct Balancer {
    replicas: Vec<(String, String, AtomicBool)>,
    next: AtomicUsize,
    http: Client,
}

impl Balancer {
    async fn over(addresses: [(String, String); 2]) -> anyhow::Result<Arc<Self>> {
        let balancer = Arc::new(Self {
            replicas: addresses.map(|(url, admin)| (url, admin, AtomicBool::new(true))).into(),
            next: AtomicUsize::new(0),
            http: Client::builder().no_proxy().timeout(Duration::from_secs(15)).build()?,
        });
        let probed = Arc::downgrade(&balancer);
        tokio::spawn(async move {
            while let Some(balancer) = probed.upgrade() {
                futures_util::future::join_all(balancer.replicas.iter().map(|replica| balancer.probe(replica))).await;
                drop(balancer);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Ok(balancer)
    }

    /// Who says that it is not ready, or is not there, gets nothing more; who is only slow keeps its place.
    async fn probe(&self, (_, admin, ready): &(String, String, AtomicBool)) {
        let asked = self.http.get(format!("{admin}/readyz")).timeout(Duration::from_secs(1));
        match asked.send().await {
            Ok(answer) => ready.store(answer.status().is_success(), Ordering::Relaxed),
            Err(error) if error.is_connect() => ready.store(false, Ordering::Relaxed),
            Err(_) => {}
        }
    }

    /// Places an order once; the error is what the client would have seen.
    async fn place(&self, number: usize) -> Result<Uuid, String> {
        let body = Wish::of(SKUS[number % SKUS.len()]).body();
        let mut refused = String::new();
        for _ in 0..self.replicas.len() {
            let url = self.pick();
            match self.http.post(format!("{url}/v1/orders")).json(&body).send().await {
                Err(error) if error.is_connect() => refused = format!("{error:?}"),
                Err(error) => return Err(format!("{error:?}")),
                Ok(answer) if answer.status().as_u16() == 201 => {
                    let order: serde_json::Value = answer.json().await.map_err(|error| format!("{error:?}"))?;
                    let id = order["id"].as_str().and_then(|id| id.parse().ok());
                    return id.ok_or_else(|| format!("{order}"));
                }
                Ok(answer) => return Err(format!("{}: {:?}", answer.status(), answer.text().await)),
            }
        }
        Err(refused)
    }

    /// The next that is ready, or simply the next when none says so: half a crowded shop is better than a closed one.
    fn pick(&self) -> &str {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let next = |offset: usize| &self.replicas[(turn + offset) % self.replicas.len()];
        let ready = (0..self.replicas.len()).find(|offset| next(*offset).2.load(Ordering::Relaxed));
        &next(ready.unwrap_or(0)).0
    }
}

/// Four customers who place one order after the other until told to stop; what was accepted, and what went wrong. Each
/// rests for as long as its answer took, so that the load fits the machine and no refusal is for want of room.
async fn load(balancer: Arc<Balancer>, stop: Arc<AtomicBool>) -> (Vec<Uuid>, Vec<String>) {
    let (mut placed, mut failed) = (Vec::new(), Vec::new());
    let customers = (0..4).map(|_| customer(&balancer, &stop));
    for (accepted, refused) in futures_util::future::join_all(customers).await {
        placed.extend(accepted);
        failed.extend(refused);
    }
    (placed, failed)
}

async fn customer(balancer: &Balancer, stop: &AtomicBool) -> (Vec<Uuid>, Vec<String>) {
    let (mut placed, mut failed) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        match balancer.place(placed.len()).await {
            Ok(id) => placed.push(id),
            Err(error) => failed.push(error),
        }
        tokio::time::sleep(asked.elapsed().max(Duration::from_millis(100))).await;
    }
    (placed, failed)
}

async fn doubled(env: &[(Service, &str, &str)]) -> (World, BTreeMap<Service, Replica>) {
    let world = World::open(env).await;
    let mut replicas = BTreeMap::new();
    for service in Service::ALL {
        let replica = world.shop.start_replica(service).await;
        replicas.insert(service, replica.unwrap_or_else(|error| panic!("{error:#}")));
    }
    (world, replicas)
}

/// Rows 34, 48: a rolling restart of every service, one replica after the other, while customers buy: not one error
/// reaches a client, every lane of every outbox has an owner again, and hardly anything is delivered twice.
#[test]
fn a_rolling_restart_of_everything_is_not_noticed() {
    run(async {
        let grace = Service::ALL.map(|service| (service, "DRAIN_GRACE_MS", "2000"));
        let (world, replicas) = doubled(&grace).await;
        let second = &replicas[&Service::Order];
        let first = (world.shop.url(Service::Order), world.shop.admin_url(Service::Order));
        let balancer = Balancer::over([first, (second.url(), second.admin_url())]).await;
        let balancer = balancer.unwrap_or_else(|error| panic!("{error}"));
        let stop = Arc::new(AtomicBool::new(false));
        let loading = tokio::spawn(load(balancer, Arc::clone(&stop)));
        for (service, replica) in &replicas {
            world
                .shop
                .restart(*service)
                .await
                .unwrap_or_else(|error| panic!("{error:#}"));
            replica.restart().await.unwrap_or_else(|error| panic!("{error:#}"));
        }
        stop.store(true, Ordering::Relaxed);
        let (placed, failed) = loading.await.unwrap_or_default();
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for error in &failed {
            *kinds
                .entry(error.replace(|c: char| c.is_ascii_digit(), ""))
                .or_default() += 1;
        }
        assert!(kinds.is_empty(), "beside {} orders: {kinds:#?}", placed.len());
        assert!(placed.len() > 50, "{} orders are no load", placed.len());
        for id in &placed {
            world.ended(*id).await;
        }
        every_lane_is_owned(&world).await;
        world.audit().await;
        little_was_delivered_twice(&world).await;
    });
}

/// Each lane of each outbox is locked by exactly one session.
async fn every_lane_is_owned(world: &World) {
    for service in TELLERS {
        let pool = world.pool(service).await.unwrap_or_else(|error| panic!("{error:#}"));
        let held = "select count(*) from pg_locks where locktype = 'advisory' and classid = 1953064041 and objid < 16
                    and granted and database = (select oid from pg_database where datname = current_database())";
        let what = format!("every lane of {service} is owned");
        let looked = world.until(&what, || async {
            let held: i64 = sqlx::query_scalar(held).fetch_one(&pool).await?;
            Ok((held == 16).then_some(()))
        });
        looked.await.unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// Each service was handed little more than it has handled: what was in flight when one of its replicas ended.
async fn little_was_delivered_twice(world: &World) {
    for service in Service::ALL {
        let url = format!("{}/admin/consumers", world.shop.admin_url(service));
        let answer = world
            .http
            .get(url)
            .send()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let lags: Vec<serde_json::Value> = answer.json().await.unwrap_or_default();
        let delivered: i64 = lags.iter().filter_map(|lag| lag["delivered"].as_i64()).sum();
        let pool = world.pool(service).await.unwrap_or_else(|error| panic!("{error:#}"));
        let handled = sqlx::query_scalar("select count(*) from inbox").fetch_one(&pool).await;
        let handled: i64 = handled.unwrap_or_else(|error| panic!("{error}"));
        assert!(
            delivered >= handled && delivered <= handled + handled / 4,
            "{service} was handed {delivered} events and has handled {handled}"
        );
    }
}

/// Row 36: a relay that is frozen while it holds lanes loses them to another, which publishes; when it wakes up nothing
/// is doubled and nothing overtakes.
#[test]
fn a_relay_that_comes_back_from_the_dead_harms_nothing() {
    run(async {
        let world = World::open(&[]).await;
        let replica = world.shop.start_replica(Service::Order).await;
        let replica = replica.unwrap_or_else(|error| panic!("{error:#}"));
        let first = (world.shop.url(Service::Order), world.shop.admin_url(Service::Order));
        let second = (replica.url(), replica.admin_url());
        let balancer = Balancer::over([first, second])
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let mut placed = orders(&balancer, 25).await;
        replica.pause().await.unwrap_or_else(|error| panic!("{error:#}"));
        // Through the one that is awake; half of them are in lanes that the sleeper holds, until its session times out.
        for number in 0..25 {
            placed.push(world.place(&Wish::of(SKUS[number % SKUS.len()])).await);
        }
        for id in &placed {
            world.ended(*id).await;
        }
        replica.resume().await.unwrap_or_else(|error| panic!("{error:#}"));
        placed.extend(orders(&balancer, 25).await);
        for id in &placed {
            world.ended(*id).await;
        }
        world.audit().await;
        every_subject_is_in_order(&world, "ORDER", placed.len())
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
    });
}

async fn orders(balancer: &Balancer, count: usize) -> Vec<Uuid> {
    let mut placed = Vec::new();
    for number in 0..count {
        placed.push(balancer.place(number).await.unwrap_or_else(|error| panic!("{error}")));
    }
    placed
}

/// The stream holds the events of each subject as 1, 2, 3 …, each once, and of so many subjects at least.
pub(crate) async fn every_subject_is_in_order(world: &World, stream: &str, subjects: usize) -> anyhow::Result<()> {
    let jetstream = world.jetstream().await?;
    let stream = jetstream.get_stream(stream).await?;
    let total = stream.cached_info().state.messages;
    let consumer = stream.create_consumer(pull::OrderedConfig::default()).await?;
    let mut messages = consumer.messages().await?.take(usize::try_from(total)?);
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    while let Some(message) = messages.next().await {
        let message = message?;
        let header = |name| {
            message
                .headers
                .as_ref()
                .and_then(|headers| headers.get(name))
                .map(|value| value.as_str())
        };
        let (subject, sequence) = (
            header("ce-subject").unwrap_or_default(),
            header("ce-sequence").unwrap_or_default(),
        );
        let sequence: u64 = sequence.parse()?;
        let before = last.insert(subject.to_owned(), sequence).unwrap_or(0);
        anyhow::ensure!(before + 1 == sequence, "{subject}: {sequence} came after {before}");
    }
    anyhow::ensure!(last.len() >= subjects, "only {} subjects", last.len());
    Ok(())
}
