//! Starts the real binary on a free port and talks to it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode};
use serde_json::Value;
use uuid::Uuid;

const KEY: &str = "sk_test_of_these_tests";

/// A folder that goes when the test does.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(std::env::temp_dir().join(format!("sandbox-gateway-{}", Uuid::now_v7())))
    }

    pub(crate) fn book(&self) -> PathBuf {
        self.0.join("book.jsonl")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox-gateway"));
    command
        .env("HTTP_ADDR", "127.0.0.1:0")
        .env("GATEWAY_DATA", folder)
        .env("GATEWAY_KEY", KEY)
        .env("RUST_LOG", "debug");
    command
}

/// A running gateway.
pub(crate) struct Gateway {
    process: Child,
    pub(crate) url: String,
    pub(crate) log: Arc<Mutex<String>>,
    pub(crate) http: reqwest::Client,
}

/// An answer: status, whether it was a replay, body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) replayed: bool,
    pub(crate) body: Value,
}

impl Gateway {
    pub(crate) fn start(folder: &Folder) -> Self {
        let mut process = command(&folder.0).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let url = lines
            .by_ref()
            .find_map(|line| Some(format!("http://{}", line.split_once("listening on http://")?.1)));
        let log = Arc::<Mutex<String>>::default();
        let kept = log.clone();
        std::thread::spawn(move || lines.for_each(|line| kept.lock().unwrap().push_str(&line)));
        Self {
            process,
            url: url.expect("it listens"),
            log,
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(30))
                .build()
                .unwrap(),
        }
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.url)).bearer_auth(KEY)
    }

    pub(crate) fn post(&self, path: &str, key: &str, form: &[(&str, &str)]) -> RequestBuilder {
        self.http
            .post(format!("{}{path}", self.url))
            .bearer_auth(KEY)
            .header("Idempotency-Key", key)
            .form(form)
    }

    /// A payment of 25.00 for the order `key`, under the key `key`.
    pub(crate) fn pay(&self, token: &str, key: &str) -> RequestBuilder {
        let form = [
            ("amount", "2500"),
            ("currency", "EUR"),
            ("payment_method", token),
            ("confirm", "true"),
            ("metadata[order_id]", key),
        ];
        self.post("/v1/payment_intents", key, &form)
    }

    pub(crate) async fn charges(&self, query: &str) -> Vec<Value> {
        let listed = send(self.get(&format!("/v1/charges{query}"))).await;
        listed.body["data"].as_array().expect("a list").clone()
    }

    /// Waits until the book lists that many charges.
    pub(crate) async fn charged(&self, count: usize) {
        let listed = async { while self.charges("").await.len() < count {} };
        tokio::time::timeout(Duration::from_secs(20), listed)
            .await
            .expect("the charges are listed in time");
    }

    pub(crate) async fn refund(&self, intent: &str, key: &str, amount: &str) -> Answer {
        send(self.post("/v1/refunds", key, &[("payment_intent", intent), ("amount", amount)])).await
    }

    pub(crate) async fn search(&self, query: &str) -> Answer {
        send(self.get("/v1/payment_intents/search").query(&[("query", query)])).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

pub(crate) async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let replayed = response
        .headers()
        .get("idempotent-replayed")
        .is_some_and(|value| value == "true");
    Answer {
        status: response.status(),
        replayed,
        body: response.json().await.unwrap(),
    }
}

pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
