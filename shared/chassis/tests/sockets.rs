//! What a connection may do, and what happens when it does more.

use std::time::Duration;

use chassis::serve::Limits;
use tokio::time::sleep;

use crate::door::{Door, tight};

const QUICK: &str = "GET /quick HTTP/1.1\r\nhost: shop\r\n\r\n";

#[tokio::test]
async fn half_a_head_is_not_held() {
    let door = Door::open(tight()).await;
    let mut client = door.client().await;
    client.say("GET /quick HTTP/1.1\r\nhost:").await;
    client.is_closed().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_not_held() {
    let door = Door::open(tight()).await;
    door.client().await.is_closed().await;
}

/// Row 42: whoever sends a request's head byte by byte is cut off when its time is over, on a new connection and on one that was used before.
#[tokio::test]
async fn a_slow_loris_is_cut_off() {
    let door = Door::open(tight()).await;
    for used in [false, true] {
        let mut client = door.client().await;
        if used {
            client.say(QUICK).await;
            assert_eq!(client.hear().await.unwrap().status, 200);
        }
        let (mut reading, mut writing) = client.0.into_split();
        let dripping = tokio::spawn(async move {
            for byte in b"GET /quick HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'y')) {
                if tokio::io::AsyncWriteExt::write_all(&mut writing, &[*byte])
                    .await
                    .is_err()
                {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        let mut heard = Vec::new();
        let ended = tokio::io::AsyncReadExt::read_to_end(&mut reading, &mut heard);
        tokio::time::timeout(crate::door::PATIENCE, ended).await.unwrap().ok();
        assert!(heard.is_empty());
        dripping.abort();
    }
}

#[tokio::test]
async fn a_connection_may_idle_between_requests_for_longer_than_a_head_may_take() {
    let door = Door::open(tight()).await;
    let mut client = door.client().await;
    for _ in 0..2 {
        client.say(QUICK).await;
        assert_eq!(client.hear().await.unwrap().body, "quick");
        // Time is what this is about: twice what a head may take.
        sleep(tight().head_within * 2).await;
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_a_408() {
    let door = Door::open(tight()).await;
    let answer = door
        .asked("POST /length HTTP/1.1\r\nhost: shop\r\ncontent-length: 10\r\n\r\nabc")
        .await;
    answer.assert_problem(408, "request-timeout");
}

/// Row 43: a body of more than 64 KiB is refused with 413, announced or not, and never kept in memory.
#[tokio::test]
async fn a_body_that_is_too_large_is_a_413() {
    let door = Door::open(Limits::default()).await;
    let body = "x".repeat(70_000);
    let announced = format!("POST /length HTTP/1.1\r\nhost: shop\r\ncontent-length: 70000\r\n\r\n{body}");
    door.asked(announced).await.assert_problem(413, "payload-too-large");
    let chunked = format!(
        "POST /length HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    door.asked(chunked).await.assert_problem(413, "payload-too-large");
    let mut client = door.client().await;
    client
        .say("POST /length HTTP/1.1\r\nhost: shop\r\ncontent-length: 70000\r\n\r\n")
        .await;
    let answer = client.hear().await.unwrap();
    assert!(
        answer.head.contains("connection: close"),
        "a client would go on with it: {answer:?}"
    );
    let huge = "POST /length HTTP/1.1\r\nhost: shop\r\ncontent-length: 99999999999\r\n\r\n";
    door.asked(huge).await.assert_problem(413, "payload-too-large");
}

#[tokio::test]
async fn a_body_of_exactly_64_kib_is_read() {
    let door = Door::open(Limits::default()).await;
    let body = "x".repeat(64 << 10);
    let answer = door
        .asked(format!(
            "POST /length HTTP/1.1\r\nhost: shop\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "65536"));
}

#[tokio::test]
async fn too_many_or_too_long_headers_are_a_431() {
    let door = Door::open(Limits::default()).await;
    let many: String = (0..10_000).map(|number| format!("x-{number}: 1\r\n")).collect();
    let long = format!("x: {}\r\n", "y".repeat(100 << 10));
    for headers in [many, long] {
        let answer = door.asked(format!("GET /quick HTTP/1.1\r\n{headers}\r\n")).await;
        answer.assert_problem(431, "headers-too-large");
    }
}

/// Row 42: bytes that are not HTTP are answered with 400 and a problem document, and the service goes on.
#[tokio::test]
async fn garbage_is_a_400() {
    let door = Door::open(Limits::default()).await;
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"hello\r\n\r\n",
        b"GET /quick HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /quick HTTP/1.1\r\nhost : shop\r\n\r\n",
        b"GET /qu ick HTTP/1.1\r\n\r\n",
        b"GET /quick HTTP/9.9\r\n\r\n",
        b"POST /length HTTP/1.1\r\ncontent-length: minus one\r\n\r\n",
        b"POST /length HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"GET /quick HTTP/1.1\r\nx: \0\r\n\r\n",
    ] {
        door.asked(garbage).await.assert_problem(400, "malformed-request");
    }
    assert_eq!(door.asked(QUICK).await.status, 200);
}

#[tokio::test]
async fn an_address_that_is_too_long_is_a_414() {
    let door = Door::open(Limits::default()).await;
    let answer = door
        .asked(format!(
            "GET /quick?q={} HTTP/1.1\r\nhost: shop\r\n\r\n",
            "x".repeat(9_000)
        ))
        .await;
    answer.assert_problem(414, "uri-too-long");
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let door = Door::open(Limits::default()).await;
    let mut client = door.client().await;
    client.say("GET /quick HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.hear().await.unwrap().body, "quick");
    client.is_closed().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let door = Door::open(Limits::default()).await;
    let mut client = door.client().await;
    client
        .say(format!(
            "{QUICK}POST /length HTTP/1.1\r\nhost: shop\r\ncontent-length: 3\r\n\r\nabc{QUICK}"
        ))
        .await;
    for expected in ["quick", "3", "quick"] {
        assert_eq!(client.hear().await.unwrap().body, expected);
    }
}

#[tokio::test]
async fn a_connection_too_many_is_told_to_come_back() {
    let door = Door::open(Limits {
        connections: 2,
        ..Limits::default()
    })
    .await;
    let (mut first, mut second) = (door.client().await, door.client().await);
    for client in [&mut first, &mut second] {
        client.say(QUICK).await;
        assert_eq!(client.hear().await.unwrap().status, 200);
    }
    let refused = door.asked(QUICK).await;
    refused.assert_problem(503, "overloaded");
    assert!(refused.head.contains("retry-after: "));
    drop(first);
    while door.asked(QUICK).await.status != 200 {
        sleep(Duration::from_millis(5)).await;
    }
    second.say(QUICK).await;
    assert_eq!(second.hear().await.unwrap().status, 200);
}
