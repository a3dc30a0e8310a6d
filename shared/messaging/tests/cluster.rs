//! A broker of three servers: whom the relay believes, what an election costs it, and how one server becomes three.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_nats::jetstream::{self, consumer::pull};
use events::Owner;
use futures_util::StreamExt;
use messaging::provision::{self, Hears, Settings};
use messaging::registry;
use serde_json::{Value, json};
use testbed::{Cluster, Place};

use crate::common::{MIGRATIONS, Replica, Told, World, assert_in_order, eventually, fill, reactions};

/// Between the relay and the API of a broker: says that there are more replicas, and forgets what it is told to.
struct Doubtful {
    /// How many lookups are still answered with no.
    lies: Arc<AtomicI64>,
}

impl Doubtful {
    /// Stands behind a prefix of its own.
    async fn before(world: &World, prefix: &'static str) -> Self {
        let lies = Arc::new(AtomicI64::new(0));
        let client = world.jetstream.client();
        let mut asked = client.subscribe(format!("{prefix}.>")).await.unwrap();
        client.flush().await.unwrap();
        let told = Arc::clone(&lies);
        tokio::spawn(async move {
            while let Some(question) = asked.next().await {
                let api = question.subject.replacen(prefix, "$JS.API", 1);
                let lookup = api.contains("STREAM.MSG.GET");
                let answer = match lookup && told.fetch_sub(1, Ordering::SeqCst) > 0 {
                    true => json!({ "error": { "code": 404, "err_code": 10037, "description": "no message found" } }),
                    false => {
                        let answer = client.request(api, question.payload).await.unwrap();
                        replicated(serde_json::from_slice(&answer.payload).unwrap())
                    }
                };
                let answer = serde_json::to_vec(&answer).unwrap();
                client.publish(question.reply.unwrap(), answer.into()).await.unwrap();
            }
        });
        Self { lies }
    }

    fn lies(&self, times: i64) {
        self.lies.store(times, Ordering::SeqCst);
    }

    async fn told_all_lies(&self) {
        eventually("the relay has asked", async || self.lies.load(Ordering::SeqCst) <= 0).await;
    }
}

/// The same of a stream with two more replicas, which the leader hears from.
fn replicated(mut answer: Value) -> Value {
    if answer.get("state").is_some() {
        let replica = |name| json!({ "name": name, "current": true, "active": 1_000_000 });
        answer["cluster"] = json!({ "leader": "a", "replicas": [replica("b"), replica("c")] });
    }
    answer
}

async fn archived(world: &World) -> Vec<i64> {
    let ids = sqlx::query_scalar("select id from outbox_archive order by id");
    ids.fetch_all(&world.pool).await.unwrap()
}

async fn relay_through(world: &World, prefix: &'static str) -> Replica {
    let mut replica = world.replica().await;
    replica.jetstream = jetstream::with_prefix(replica.jetstream.client(), prefix);
    replica.relaying()
}

/// Row 12: a server that leads no more and does not know it yet finds nothing that was told to its successor; the relay
/// asks again before it believes that anything is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_leads_no_more_is_not_believed_to_have_forgotten() {
    let world = World::new().await;
    let leader = Doubtful::before(&world, "FORMER").await;
    let relay = relay_through(&world, "FORMER").await;
    fill(&world.pool, 50, 7).await;
    world.all_published().await;
    relay.stop().await;
    let before = archived(&world).await;

    leader.lies(3);
    let relay = relay_through(&world, "FORMER").await;
    leader.told_all_lies().await;
    fill(&world.pool, 1, 1).await;
    world.all_published().await;
    relay.stop().await;
    let after = archived(&world).await;
    assert_eq!(after[..before.len()], before, "what is archived was not sent again");
    assert_eq!(world.stream().await.len(), 51);
}

/// Row 10: a leader of several replicas that insists has forgotten indeed.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_insists_is_believed_to_have_forgotten() {
    let world = World::new().await;
    let leader = Doubtful::before(&world, "INSISTENT").await;
    let relay = relay_through(&world, "INSISTENT").await;
    fill(&world.pool, 50, 7).await;
    world.all_published().await;
    relay.stop().await;
    let before = archived(&world).await;

    leader.lies(i64::MAX);
    let _relay = relay_through(&world, "INSISTENT").await;
    eventually("the archive was taken back and sent again", async || {
        let after = archived(&world).await;
        !after.is_empty() && !after.iter().any(|batch| before.contains(batch))
    })
    .await;
}

async fn cluster_of_three() -> (Cluster, async_nats::Client) {
    let places = (0..3).map(|_| Place::temporary()).collect();
    let cluster = Cluster::start(places, "", &[]).await.unwrap();
    let (options, servers) = messaging::broker::options(&cluster.url()).unwrap();
    (cluster, options.connect(servers).await.unwrap())
}

async fn provisioned(jetstream: &jetstream::Context, replicas: usize) {
    let settings = Settings {
        replicas,
        ..Settings::default()
    };
    eventually("the cluster has room for every stream", async || {
        provision::streams(jetstream, &settings).await.is_ok()
            && provision::durables(jetstream, &Hears::of(&reactions()), &settings)
                .await
                .is_ok()
    })
    .await;
}

/// What the stream holds, in its order.
async fn told(jetstream: &jetstream::Context) -> Vec<Told> {
    let stream = jetstream.get_stream(Owner::Inventory.stream()).await.unwrap();
    let messages = stream.cached_info().state.messages as usize;
    let all = stream.create_consumer(pull::OrderedConfig::default()).await.unwrap();
    let told = all.messages().await.unwrap().take(messages);
    told.map(|message| Told::of(message.unwrap().headers.clone().unwrap()))
        .collect()
        .await
}

/// Row 12: each leader in turn is killed in the midst of a backlog; every event is in the stream once, in its order.
#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_published_once_though_leaders_are_killed() {
    let (cluster, client) = cluster_of_three().await;
    let jetstream = jetstream::new(client.clone());
    provisioned(&jetstream, 3).await;
    let pool = testbed::database(&MIGRATIONS).await;
    let _replica = Replica::of(&pool, client).await.relaying();
    let left = async || {
        let left = sqlx::query_scalar::<_, i64>("select count(*) from outbox");
        left.fetch_one(&pool).await.unwrap()
    };
    for _ in 0..2 {
        fill(&pool, 20_000, 200).await;
        eventually("some of it is published", async || left().await < 20_000).await;
        let leader = cluster.leader_of(Owner::Inventory.stream()).await.unwrap();
        cluster.servers()[leader].kill().await.unwrap();
        eventually("the outbox is empty", async || left().await == 0).await;
        cluster.servers()[leader].restart().await.unwrap();
        cluster.healthy().await.unwrap();
    }
    let told = told(&jetstream).await;
    assert_eq!(told.len(), 40_000);
    assert_in_order(&told);
}

/// Row 11: a stream that a cluster has lost is filled again once it is provisioned.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_a_cluster_lost_is_filled_again() {
    let (_cluster, client) = cluster_of_three().await;
    let jetstream = jetstream::new(client.clone());
    provisioned(&jetstream, 3).await;
    let pool = testbed::database(&MIGRATIONS).await;
    let _replica = Replica::of(&pool, client).await.relaying();
    fill(&pool, 100, 7).await;
    let holds = async |messages: u64| {
        let stream = jetstream.get_stream(Owner::Inventory.stream()).await;
        stream.is_ok_and(|stream| stream.cached_info().state.messages == messages)
    };
    eventually("all is published", async || holds(100).await).await;
    jetstream.delete_stream(Owner::Inventory.stream()).await.unwrap();
    provisioned(&jetstream, 3).await;
    fill(&pool, 1, 1).await;
    eventually("all of it is there again", async || holds(101).await).await;
    assert_in_order(&told(&jetstream).await);
}

/// The provisioner makes three replicas of one, of streams, durables and the registry, and nothing is lost on the way.
#[tokio::test(flavor = "multi_thread")]
async fn one_replica_becomes_three() {
    let (cluster, client) = cluster_of_three().await;
    let jetstream = jetstream::new(client.clone());
    provisioned(&jetstream, 1).await;
    let pool = testbed::database(&MIGRATIONS).await;
    let _replica = Replica::of(&pool, client).await.relaying();
    fill(&pool, 100, 7).await;
    provisioned(&jetstream, 3).await;
    fill(&pool, 100, 7).await;
    let bucket = format!("KV_{}", registry::BUCKET);
    eventually("every replica is current", async || {
        let mut current = 0;
        for stream in [
            Owner::Inventory.stream(),
            Owner::Payment.stream(),
            provision::ADVISORIES,
            &bucket,
        ] {
            let stream = jetstream.get_stream(stream).await.unwrap();
            let cluster = stream.cached_info().cluster.clone().unwrap_or_default();
            current += cluster.replicas.iter().filter(|replica| replica.current).count();
        }
        current == 4 * 2
    })
    .await;
    eventually("the durable has three replicas as well", async || {
        let durable = jetstream.get_consumer_from_stream("inventory", "PAYMENT").await;
        let durable: jetstream::consumer::Consumer<pull::Config> = durable.unwrap();
        let cluster = durable.cached_info().cluster.clone().unwrap_or_default();
        cluster.replicas.len() == 2
    })
    .await;
    eventually("all is published", async || told(&jetstream).await.len() == 200).await;
    assert_in_order(&told(&jetstream).await);
    drop(cluster);
}
