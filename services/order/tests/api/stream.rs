//! Following an order: every state once, whenever one comes and however often one comes back.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{Request, StatusCode};
use chassis::serve::{Ending, Limits, serve};
use futures_util::StreamExt;
use messaging::{Db, Decisions, Touched};
use order::domain::{Facts, Order, Orders};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower::ServiceExt;
use uuid::Uuid;

use crate::patience::until;
use crate::{Shop, wish};

/// How long anything may take: a net, not a measurement.
const PATIENCE: Duration = Duration::from_secs(60);

struct Stream {
    body: BodyDataStream,
    text: String,
}

impl Stream {
    /// The next event as its id and its data; none when the stream has ended.
    async fn next(&mut self) -> Option<(i64, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                if let (Some(id), Some(data)) = (field("id: "), field("data: ")) {
                    return Some((id.parse().unwrap(), serde_json::from_str(data).unwrap()));
                }
                continue;
            }
            let more = timeout(PATIENCE, self.body.next()).await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&more.unwrap()).unwrap());
        }
    }

    async fn next_state(&mut self) -> Option<(i64, String)> {
        let (id, data) = self.next().await?;
        assert_eq!(data["version"], id);
        Some((id, data["state"].as_str().unwrap().to_owned()))
    }

    async fn rest(mut self) -> Vec<(i64, String)> {
        let mut states = Vec::new();
        while let Some(state) = self.next_state().await {
            states.push(state);
        }
        states
    }
}

impl Shop {
    async fn follow(&self, id: Uuid, last: Option<&str>) -> (StatusCode, Stream) {
        let mut request = Request::get(format!("/v1/orders/{id}/events"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = self
            .routes
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        let status = response.status();
        let body = response.into_body().into_data_stream();
        (
            status,
            Stream {
                body,
                text: String::new(),
            },
        )
    }

    async fn place(&self) -> Uuid {
        let placed = self.post("/v1/orders", &wish(), None).await;
        placed.body["id"].as_str().unwrap().parse().unwrap()
    }
}

/// Folds these facts in, one after the other, in one transaction.
async fn learn(decisions: &Decisions<Orders>, id: Uuid, facts: &'static [fn(&mut Facts)]) {
    let learn = move |orders: &mut Orders| {
        let order: &mut Order = orders.orders.get_mut(&id).unwrap();
        let said: Vec<_> = facts.iter().map(|fact| order.learn(fact)).collect();
        ((), said.into_iter().last())
    };
    decisions.decide(Touched::order(id), learn).await.unwrap();
}

const TO_THE_DOOR: &[fn(&mut Facts)] = &[
    |facts| facts.reserved = true,
    |facts| facts.paid = Some(Uuid::nil()),
    |facts| facts.scheduled = true,
    |facts| facts.shipped = true,
    |facts| facts.delivered = Some(Default::default()),
];

fn states(expected: &[(i64, &str)]) -> Vec<(i64, String)> {
    expected.iter().map(|(id, state)| (*id, (*state).to_owned())).collect()
}

#[tokio::test]
async fn every_state_is_told_also_those_within_one_batch_and_the_stream_ends_with_the_order() {
    let shop = Shop::open().await;
    let id = shop.place().await;
    learn(&shop.decisions, id, TO_THE_DOOR).await;
    let all = [
        (1, "PENDING"),
        (2, "RESERVED"),
        (3, "CONFIRMED"),
        (5, "SHIPPED"),
        (6, "COMPLETED"),
    ];
    assert_eq!(shop.follow(id, None).await.1.rest().await, states(&all));
    // Nothing is missing and nothing is told twice, wherever one comes back.
    for last in 0..6 {
        let (status, stream) = shop.follow(id, Some(&last.to_string())).await;
        let after: Vec<_> = all.iter().copied().filter(|(version, _)| *version > last).collect();
        assert_eq!(
            (status, stream.rest().await),
            (StatusCode::OK, states(&after)),
            "after {last}"
        );
    }
    let (status, stream) = shop.follow(id, Some("6")).await;
    assert_eq!((status, stream.rest().await), (StatusCode::NO_CONTENT, Vec::new()));
}

#[tokio::test]
async fn a_change_is_told_as_it_comes_whichever_replica_made_it() {
    let shop = Shop::open().await;
    let id = shop.place().await;
    let (_, mut stream) = shop.follow(id, None).await;
    let (_, data) = stream.next().await.unwrap();
    assert_eq!((&data["order_id"], &data["reason"]), (&json!(id), &Value::Null));
    assert!(data["changed_at"].is_string());

    learn(&shop.decisions, id, &TO_THE_DOOR[..1]).await;
    assert_eq!(stream.next_state().await, Some((2, "RESERVED".into())));
    let replica = Decisions::start(Db::new(shop.pool.clone()));
    learn(&replica, id, &TO_THE_DOOR[1..]).await;
    assert_eq!(
        stream.rest().await,
        states(&[(3, "CONFIRMED"), (5, "SHIPPED"), (6, "COMPLETED")])
    );
}

#[tokio::test]
async fn a_customer_sees_why_the_order_is_cancelled() {
    let shop = Shop::open().await;
    let id = shop.place().await;
    shop.post(&format!("/v1/orders/{id}/cancel"), &json!({}), None).await;
    let (_, mut stream) = shop.follow(id, Some("1")).await;
    let (_, data) = stream.next().await.unwrap();
    assert_eq!(
        (&data["state"], &data["reason"]),
        (&json!("CANCELLING"), &json!("REQUESTED_BY_CUSTOMER"))
    );
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused_as_a_problem() {
    let shop = Shop::open().await;
    let id = shop.place().await;
    for (id, last, expected) in [
        (Uuid::now_v7(), None, StatusCode::NOT_FOUND),
        (id, Some("yesterday"), StatusCode::UNPROCESSABLE_ENTITY),
        (id, Some("-1"), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        assert_eq!(shop.follow(id, last).await.0, expected, "{last:?}");
    }
}

/// Over a real connection, with limits that a stream would reach soon if it counted as a request under way.
struct Line {
    socket: TcpStream,
    heard: String,
}

impl Line {
    async fn open(address: std::net::SocketAddr, id: Uuid) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /v1/orders/{id}/events HTTP/1.1\r\nhost: shop\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        Self {
            socket,
            heard: String::new(),
        }
    }

    async fn hears(&mut self, text: &str) {
        let heard = async {
            while !self.heard.contains(text) {
                let mut more = [0; 1024];
                let length = self.socket.read(&mut more).await.unwrap();
                assert!(length > 0, "it ended: {}", self.heard);
                self.heard.push_str(std::str::from_utf8(&more[..length]).unwrap());
            }
        };
        timeout(PATIENCE, heard).await.unwrap();
    }
}

/// Row 48: open streams do not hold the service up when it ends, and outlive the time that an answer may take.
#[tokio::test]
async fn a_stream_outlives_the_limits_of_an_answer_frees_its_place_and_ends_with_the_service() {
    let shop = Shop::open().await;
    let id = shop.place().await;
    let limits = Limits {
        answer_within: Duration::from_millis(300),
        idle_within: Duration::from_millis(300),
        ..Limits::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, ending) = (listener.local_addr().unwrap(), Ending::default());
    let routes = chassis::surface_within(shop.api.clone(), limits);
    let served = tokio::spawn(serve(listener, routes, limits, ending.clone()));

    let mut stays = Line::open(address, id).await;
    let mut leaves = Line::open(address, id).await;
    for line in [&mut stays, &mut leaves] {
        line.hears("\"PENDING\"").await;
    }
    assert_eq!(shop.followed.count(), 2);
    drop(leaves);
    until(|| async { shop.followed.count() == 1 }).await;
    // Time is meant: the limits of an answer are to pass.
    tokio::time::sleep(2 * limits.answer_within).await;
    learn(&shop.decisions, id, &TO_THE_DOOR[..1]).await;
    stays.hears("\"RESERVED\"").await;

    ending.announced.cancel();
    ending.stopped.cancel();
    shop.shutdown.cancel();
    timeout(PATIENCE, served).await.unwrap().unwrap();
    stays.hears("0\r\n\r\n").await;
    until(|| async { shop.followed.count() == 0 }).await;
}
