//! The real sandbox gateway on a port of its own; it can be killed and started again with the same book.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use uuid::Uuid;

pub(crate) const KEY: &str = "sk_test_of_these_tests";

pub(crate) struct Sandbox {
    process: Child,
    folder: PathBuf,
    port: u16,
}

impl Sandbox {
    pub(crate) fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("payment-tasks-{}", Uuid::now_v7()));
        let port = testbed::free_port().unwrap();
        let process = run(&folder, port);
        Self { process, folder, port }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// SIGKILL: calls under way are cut, the port is closed.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.process = run(&self.folder, self.port);
    }

    /// What it really took for an order.
    pub(crate) async fn charges(&self, order_id: Uuid) -> Vec<Value> {
        let url = format!("{}/v1/charges?order_id={order_id}", self.url());
        let listed: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        listed["data"].as_array().unwrap().clone()
    }

    pub(crate) async fn refunds(&self, mode: &str) {
        let url = format!("{}/sandbox/refunds/{mode}", self.url());
        reqwest::Client::new()
            .post(url)
            .send()
            .await
            .unwrap()
            .error_for_status()
            .unwrap();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Returns once it listens.
fn run(folder: &PathBuf, port: u16) -> Child {
    let mut process = Command::new(env!("CARGO_BIN_EXE_sandbox-gateway"))
        .env("HTTP_ADDR", format!("127.0.0.1:{port}"))
        .env("GATEWAY_DATA", folder)
        .env("GATEWAY_KEY", KEY)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(
        lines.any(|line| line.contains("listening on")),
        "the sandbox gateway starts"
    );
    std::thread::spawn(move || lines.for_each(drop));
    process
}
