//! Careful customers: whoever gets no answer asks again under the same key, until there is one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use futures_util::future::join;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use super::wish::Wish;
use crate::audit::ClientLog;

/// How long a customer waits for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How many customers there are; when all of them still want something, nobody else comes.
const PEOPLE: usize = 300;
/// How long a customer asks in vain before that is a breach.
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);

/// All of them, and what they have sent and seen.
#[derive(Debug)]
pub(super) struct Customers {
    seed: u64,
    orders: String,
    client: Client,
    log: Mutex<Log>,
}

/// What the customers have sent and seen.
#[derive(Debug, Default, Clone)]
pub(super) struct Log {
    /// What the audit compares with.
    pub(super) client: ClientLog,
    /// Which order came of a key.
    by_key: BTreeMap<String, Uuid>,
    /// Orders refused for good, for want of stock.
    pub(super) refused: usize,
    /// How many requests were answered how, failures of the transport included.
    pub(super) answers: BTreeMap<String, usize>,
    /// How often something was sent again for want of an answer.
    pub(super) repeats: usize,
    /// Answers that were given before.
    pub(super) replayed: usize,
    /// Wishes to cancel that were accepted.
    pub(super) cancellations: usize,
    /// Returns that were accepted.
    pub(super) returns: usize,
    /// What no customer may ever see.
    pub(super) breaches: Vec<String>,
}

/// An answer, as far as a customer reads it.
struct Said {
    status: StatusCode,
    /// Whether it had been given before.
    replayed: bool,
    /// When to come again at the soonest.
    retry_after: Duration,
    body: Value,
}

type Answer = reqwest::Result<Said>;

impl Log {
    fn count(&mut self, answer: &Answer) {
        let seen = match answer {
            Ok(said) => {
                self.replayed += usize::from(said.replayed);
                said.status.to_string()
            }
            Err(error) if error.is_timeout() => "no answer in time".to_owned(),
            Err(_) => "no connection, or cut off".to_owned(),
        };
        *self.answers.entry(seen).or_default() += 1;
    }
}

impl Customers {
    pub(super) fn new(seed: u64, order_url: &str) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            seed,
            orders: format!("{order_url}/v1/orders"),
            client: super::client(PATIENCE)?,
            log: Mutex::default(),
        }))
    }

    pub(super) fn log(&self) -> Log {
        self.write().clone()
    }

    fn write(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends so many orders a second for so long, and returns once every customer is content.
    pub(super) async fn come(self: Arc<Self>, a_second: f64, length: Duration) {
        let mut customers = JoinSet::new();
        let mut ticks = interval(Duration::from_secs_f64(1.0 / a_second));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = Instant::now() + length;
        for number in 0.. {
            ticks.tick().await;
            if Instant::now() > end {
                break;
            }
            let (all, wish) = (Arc::clone(&self), Wish::of(self.seed, number));
            customers.spawn(async move { all.serve(wish).await });
            while customers.try_join_next().is_some() {}
            while customers.len() >= PEOPLE {
                customers.join_next().await;
            }
        }
        while customers.join_next().await.is_some() {}
    }

    /// One customer, from the first try to the last repetition.
    async fn serve(&self, wish: Wish) {
        let placed = match wish.twice {
            true => join(self.place(&wish), self.place(&wish)).await.0,
            false => self.place(&wish).await,
        };
        let Some(order) = placed else { return };
        let cancel = async {
            if let Some(after) = wish.cancel_after {
                sleep(after).await;
                self.cancel(order).await;
            }
        };
        let again = async {
            if let Some(after) = wish.again_after {
                sleep(after).await;
                self.place(&wish).await;
            }
        };
        let send_back = async {
            if let Some(after) = wish.return_after {
                sleep(after).await;
                self.send_back(order, &wish).await;
            }
        };
        join(join(cancel, again), send_back).await;
    }

    /// Asks for a piece to be taken back; that it has not arrived is an answer as well.
    async fn send_back(&self, order: Uuid, wish: &Wish) {
        let url = format!("{}/{order}/returns", self.orders);
        let request = || {
            let request = self.client.post(&url).header("idempotency-key", &wish.key);
            request.json(&wish.returned())
        };
        let Some((status, body)) = self.ask(&format!("return {order}"), request).await else {
            return;
        };
        let mut log = self.write();
        match status {
            StatusCode::ACCEPTED => log.returns += 1,
            StatusCode::CONFLICT => {}
            _ => log
                .breaches
                .push(format!("returning {order} was answered {status}: {body}")),
        }
    }

    /// Asks until the order is accepted or refused.
    async fn place(&self, wish: &Wish) -> Option<Uuid> {
        self.write().client.attempted.insert(wish.key.clone());
        let request = || {
            let request = self.client.post(&self.orders).header("idempotency-key", &wish.key);
            request.json(&wish.body())
        };
        let (status, body) = self.ask(&wish.key, request).await?;
        let id = body["id"].as_str().and_then(|id| id.parse::<Uuid>().ok());
        let mut log = self.write();
        match (status, id) {
            (StatusCode::CREATED, Some(id)) => {
                log.client.accepted.insert(id);
                let known = *log.by_key.entry(wish.key.clone()).or_insert(id);
                if known != id {
                    log.breaches
                        .push(format!("the key {} gave two orders, {known} and {id}", wish.key));
                }
                Some(id)
            }
            (StatusCode::CONFLICT, _) if body["type"] == "/problems/out-of-stock" => {
                log.refused += 1;
                if let Some(known) = log.by_key.get(&wish.key) {
                    let breach = format!("the key {} had given order {known}, then it was refused", wish.key);
                    log.breaches.push(breach);
                }
                None
            }
            _ => {
                log.breaches
                    .push(format!("the order {} was answered {status}: {body}", wish.key));
                None
            }
        }
    }

    /// Asks for an order to be undone; too late is an answer as well.
    async fn cancel(&self, order: Uuid) {
        let url = format!("{}/{order}/cancel", self.orders);
        let Some((status, body)) = self.ask(&format!("cancel {order}"), || self.client.post(&url)).await else {
            return;
        };
        let mut log = self.write();
        match status {
            StatusCode::OK | StatusCode::ACCEPTED => log.cancellations += 1,
            StatusCode::CONFLICT => {}
            _ => log
                .breaches
                .push(format!("cancelling {order} was answered {status}: {body}")),
        }
    }

    /// Sends a request until there is an answer that is no "later".
    async fn ask(&self, what: &str, request: impl Fn() -> RequestBuilder) -> Option<(StatusCode, Value)> {
        let deadline = Instant::now() + ANSWERED_WITHIN;
        let mut tries = 0;
        loop {
            let answer = self.once(request()).await;
            self.write().count(&answer);
            let retry_after = match answer {
                Ok(said) if !is_later(said.status, &said.body) => return Some((said.status, said.body)),
                Ok(said) => said.retry_after,
                Err(_) => Duration::ZERO,
            };
            if Instant::now() > deadline {
                let breach = format!("{what} was not answered in {ANSWERED_WITHIN:?}");
                self.write().breaches.push(breach);
                return None;
            }
            self.write().repeats += 1;
            sleep(retry_after + backoff(tries)).await;
            tries += 1;
        }
    }

    async fn once(&self, request: RequestBuilder) -> Answer {
        let answer = request.send().await?;
        let retry_after = answer
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Said {
            status: answer.status(),
            replayed: answer.headers().contains_key("idempotent-replayed"),
            retry_after: Duration::from_secs(retry_after.unwrap_or_default()),
            body: answer.json().await?,
        })
    }
}

/// Exponential with full jitter.
fn backoff(tries: u32) -> Duration {
    let ceiling = Duration::from_millis(200 << tries.min(8)).min(LONGEST_PAUSE);
    ceiling.mul_f64(fastrand::f64())
}

/// Whether the answer asks the customer to come again.
fn is_later(status: StatusCode, body: &Value) -> bool {
    let in_flight =
        status == StatusCode::CONFLICT && body["type"].as_str().is_some_and(|kind| kind.contains("in-flight"));
    in_flight || status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS
}
