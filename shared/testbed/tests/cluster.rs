//! Three brokers that keep every stream together: elections, and what survives them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream};
use testbed::{Cluster, Place};

async fn three() -> (Cluster, jetstream::Context) {
    let places = (0..3).map(|_| Place::temporary()).collect();
    let cluster = Cluster::start(places, "", &[]).await.unwrap();
    let servers: Vec<async_nats::ServerAddr> = cluster.url().split(',').map(|url| url.parse().unwrap()).collect();
    let jetstream = jetstream::new(async_nats::connect(servers).await.unwrap());
    let notes = stream::Config {
        name: "NOTES".into(),
        subjects: vec!["notes".into()],
        num_replicas: 3,
        ..Default::default()
    };
    jetstream.create_stream(notes).await.unwrap();
    (cluster, jetstream)
}

/// Publishes until it is acknowledged, and returns its place in the stream.
async fn publish(jetstream: &jetstream::Context) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        if let Ok(ack) = jetstream.publish("notes", "kept".into()).await
            && let Ok(ack) = ack.await
        {
            return ack.sequence;
        }
        assert!(Instant::now() < deadline, "nobody acknowledges");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn another_leader_is_elected_and_has_everything() {
    let (cluster, jetstream) = three().await;
    assert_eq!(publish(&jetstream).await, 1);
    let first = cluster.leader_of("NOTES").await.unwrap();
    cluster.servers()[first].kill().await.unwrap();
    assert!(publish(&jetstream).await >= 2);
    assert_ne!(cluster.leader_of("NOTES").await.unwrap(), first);

    cluster.servers()[first].restart().await.unwrap();
    cluster.healthy().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let stream = jetstream.get_stream("NOTES").await.unwrap();
        let replicas = stream.cached_info().cluster.clone().unwrap().replicas;
        if replicas.iter().all(|replica| replica.current) {
            break;
        }
        assert!(Instant::now() < deadline, "{replicas:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_paused_server_leads_no_longer_and_can_be_stopped() {
    let (cluster, jetstream) = three().await;
    publish(&jetstream).await;
    let first = cluster.leader_of("NOTES").await.unwrap();
    let paused = &cluster.servers()[first];
    paused.pause().await.unwrap();
    assert_ne!(cluster.leader_of("NOTES").await.unwrap(), first);
    paused.resume().await.unwrap();
    cluster.healthy().await.unwrap();
    paused.pause().await.unwrap();
    paused.stop().await.unwrap();
    assert_eq!(paused.pid(), None);
}

#[tokio::test]
async fn one_server_is_a_broker_as_well() {
    let cluster = Cluster::start(vec![Place::temporary()], "", &[]).await.unwrap();
    assert_eq!(cluster.url(), cluster.servers()[0].url());
    assert!(cluster.leaders().await.is_empty());
}
