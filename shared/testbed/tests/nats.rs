//! A private broker: its acknowledgements, its crashes, its neighbours.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use async_nats::jetstream::{self, stream};
use testbed::{Nats, Place};

async fn jetstream_of(broker: &Nats) -> jetstream::Context {
    jetstream::new(async_nats::connect(broker.url()).await.unwrap())
}

fn notes() -> stream::Config {
    stream::Config {
        name: "NOTES".into(),
        subjects: vec!["notes".into()],
        ..Default::default()
    }
}

#[tokio::test]
async fn acknowledged_messages_survive_kill_9() {
    let broker = Nats::start(Place::temporary()).await.unwrap();
    let jetstream = jetstream_of(&broker).await;
    jetstream.create_stream(notes()).await.unwrap();
    for _ in 0..20 {
        jetstream.publish("notes", "kept".into()).await.unwrap().await.unwrap();
    }
    let url = broker.url();

    broker.kill().await.unwrap();
    assert!(
        tokio::net::TcpStream::connect(("127.0.0.1", broker.port()))
            .await
            .is_err()
    );
    broker.restart().await.unwrap();

    assert_eq!(broker.url(), url);
    let mut stream = jetstream_of(&broker).await.get_stream("NOTES").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 20);
}

#[tokio::test]
async fn brokers_started_at_once_do_not_see_each_other() {
    let start = || Nats::start(Place::temporary());
    let (a, b) = tokio::try_join!(start(), start()).unwrap();
    jetstream_of(&a).await.create_stream(notes()).await.unwrap();
    assert!(jetstream_of(&b).await.get_stream("NOTES").await.is_err());
    assert!(
        tokio::net::TcpStream::connect(b.monitor_url().trim_start_matches("http://"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn the_shared_broker_is_one_per_process() {
    let elsewhere = tokio::spawn(async { testbed::nats().await.port() });
    assert_eq!(testbed::nats().await.port(), elsewhere.await.unwrap());
}

#[tokio::test]
async fn more_configuration_is_obeyed() {
    let users = "authorization { user: shop, password: secret }\n";
    let broker = Nats::start_with(Place::temporary(), users).await.unwrap();
    assert!(async_nats::connect(broker.url()).await.is_err());
    let login = async_nats::ConnectOptions::with_user_and_password("shop".into(), "secret".into());
    login.connect(broker.url()).await.unwrap();
}
