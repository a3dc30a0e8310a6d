//! A private nats-server with JetStream.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use crate::supervisor::{Plan, Supervisor};
use crate::{Place, blocking, free_port, tools};

/// A running broker whose acknowledgements mean that the message is on disk.
#[derive(Debug)]
pub struct Nats {
    port: u16,
    monitor_port: u16,
    supervisor: Arc<Supervisor>,
}

impl Nats {
    /// Starts a broker that lets everybody in; nats-server is installed if missing.
    pub async fn start(place: Place) -> Result<Self> {
        Self::start_with(place, "").await
    }

    /// Starts a broker with more lines of configuration, for instance its users.
    pub async fn start_with(place: Place, configuration: &str) -> Result<Self> {
        Self::start_told(place, configuration, Vec::new()).await
    }

    /// The same with variables that the configuration refers to as `$NAME`.
    pub async fn start_told(place: Place, configuration: &str, variables: Vec<(String, String)>) -> Result<Self> {
        let more = configuration.to_owned();
        blocking(move || Self::start_blocking(&place, &more, &variables)).await
    }

    pub(crate) fn start_blocking(place: &Place, more: &str, variables: &[(String, String)]) -> Result<Self> {
        let program = tools::nats_server()?;
        let mut attempts = 0;
        loop {
            let port = place.port.map_or_else(free_port, Ok)?;
            let monitor_port = free_port()?;
            let supervisor = Supervisor::open(plan(place, &program, variables)?)?;
            let configuration = configuration(supervisor.folder(), port, monitor_port);
            std::fs::write(supervisor.folder().join("nats.conf"), configuration + more)?;
            match supervisor.start() {
                Ok(()) => {
                    let supervisor = Arc::new(supervisor);
                    return Ok(Self {
                        port,
                        monitor_port,
                        supervisor,
                    });
                }
                Err(_) if place.port.is_none() && supervisor.port_was_taken() && attempts < 5 => {
                    attempts += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The address for clients.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The address of the monitoring endpoints: `/healthz`, `/jsz`, `/connz` …
    pub fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor_port)
    }

    /// The port for clients, the same after every restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.supervisor.process().ok().flatten()
    }

    /// The folder that holds the store, `nats.conf` and `server.log`.
    pub fn folder(&self) -> &Path {
        self.supervisor.folder()
    }

    /// Ends the broker in good order, waking it if it is paused.
    pub async fn stop(&self) -> Result<()> {
        if self.pid().is_some() {
            self.supervisor.signal("CONT")?;
        }
        self.end("TERM").await
    }

    /// Kills the broker with -9.
    pub async fn kill(&self) -> Result<()> {
        self.end("KILL").await
    }

    /// Starts the broker again on its ports and store, stopping it first if it runs.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        let supervisor = Arc::clone(&self.supervisor);
        blocking(move || supervisor.start()).await
    }

    /// Freezes the broker with SIGSTOP: its connections stay open, and nobody answers on them.
    pub async fn pause(&self) -> Result<()> {
        self.freeze(true).await
    }

    /// Lets a paused broker go on.
    pub async fn resume(&self) -> Result<()> {
        self.freeze(false).await
    }

    async fn freeze(&self, frozen: bool) -> Result<()> {
        let supervisor = Arc::clone(&self.supervisor);
        blocking(move || supervisor.freeze(frozen)).await
    }

    async fn end(&self, signal: &'static str) -> Result<()> {
        let supervisor = Arc::clone(&self.supervisor);
        blocking(move || supervisor.end(signal)).await
    }
}

fn plan(place: &Place, program: &Path, variables: &[(String, String)]) -> Result<Plan> {
    let set = |(name, value): &(String, String)| (name.into(), Some(value.into()));
    Ok(Plan {
        name: "nats-server".into(),
        command: vec![program.into(), "-c".into(), "nats.conf".into()],
        environment: variables.iter().map(set).collect(),
        log: "server.log".into(),
        append: false,
        prepare: String::new(),
        folder: place.folder("nats", None)?,
        keep: place.kept.is_some(),
        user: None,
        last_signal: if place.kept.is_some() { "TERM" } else { "KILL" },
        ready_line: "Server is ready",
    })
}

fn configuration(folder: &Path, port: u16, monitor_port: u16) -> String {
    let store = folder
        .join("store")
        .display()
        .to_string()
        .replace('\\', "\\\\")
        .replace('"', "\\\"");
    format!(
        r#"listen: "127.0.0.1:{port}"
http: "127.0.0.1:{monitor_port}"
jetstream {{
    store_dir: "{store}"
    # An acknowledgement means that the message is on disk, not in a cache.
    sync_interval: always
    max_memory_store: 256MB
    max_file_store: 20GB
}}
"#
    )
}
