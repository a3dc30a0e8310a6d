//! How serving ends.

use std::time::Duration;

use chassis::serve::Limits;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::door::{Door, PATIENCE};

const QUICK: &str = "GET /quick HTTP/1.1\r\nhost: shop\r\n\r\n";
const SLOW: &str = "GET /slow HTTP/1.1\r\nhost: shop\r\n\r\n";

/// Row 48: a request under way is answered although the service is ending, idle connections are closed at once, and nothing new is accepted.
#[tokio::test]
async fn a_request_under_way_is_finished_and_nothing_new_is_begun() {
    let door = Door::open(Limits::default()).await;
    let (mut idle, mut busy) = (door.client().await, door.client().await);
    idle.say(QUICK).await;
    assert_eq!(idle.hear().await.unwrap().status, 200);
    busy.say(SLOW).await;
    door.begun.acquire().await.unwrap().forget();

    door.ending.announced.cancel();
    door.ending.stopped.cancel();
    idle.is_closed().await;
    timeout(PATIENCE, async {
        while TcpStream::connect(door.address).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert!(!door.served.is_finished(), "it ended with a request under way");

    door.let_go.add_permits(1);
    let answer = busy.hear().await.unwrap();
    assert_eq!(answer.body, "at last");
    assert!(answer.head.contains("connection: close"), "{answer:?}");
    busy.is_closed().await;
    timeout(PATIENCE, door.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_announced_end_sends_clients_elsewhere_but_refuses_nobody() {
    let door = Door::open(Limits::default()).await;
    let mut before = door.client().await;
    before.say(QUICK).await;
    assert!(!before.hear().await.unwrap().head.contains("connection: close"));
    door.ending.announced.cancel();
    for mut client in [before, door.client().await] {
        client.say(QUICK).await;
        let answer = client.hear().await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains("connection: close"), "{answer:?}");
        client.is_closed().await;
    }
}

#[tokio::test]
async fn a_connection_that_never_asked_for_anything_does_not_keep_the_service() {
    let door = Door::open(Limits::default()).await;
    let _silent = door.client().await;
    let mut asked = door.client().await;
    asked.say(QUICK).await;
    // An answer on a later connection: the silent one was accepted before.
    assert_eq!(asked.hear().await.unwrap().status, 200);
    door.ending.stopped.cancel();
    timeout(PATIENCE, door.served).await.unwrap().unwrap();
}
