//! A private PostgreSQL cluster.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use crate::place::User;
use crate::supervisor::{Plan, Supervisor};
use crate::{Durability, Place, blocking, free_port, tools};

/// The longest path of a socket's folder that leaves room for the socket's name on every system.
const LONGEST_SOCKET_FOLDER: usize = 80;

/// A running cluster with one superuser, `postgres`, trusted without a password.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    supervisor: Arc<Supervisor>,
}

impl Postgres {
    /// Starts a cluster, creating it first where the place is empty; PostgreSQL is installed if missing.
    pub async fn start(place: Place) -> Result<Self> {
        Self::start_with(place, &[]).await
    }

    /// Starts a cluster with more settings, `name=value`, which override ours.
    pub async fn start_with(place: Place, settings: &[&str]) -> Result<Self> {
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        blocking(move || Self::start_blocking(&place, &settings)).await
    }

    pub(crate) fn start_blocking(place: &Place, settings: &[String]) -> Result<Self> {
        let bin = tools::postgres_bin()?;
        let mut attempts = 0;
        loop {
            let port = place.port.map_or_else(free_port, Ok)?;
            let supervisor = Supervisor::open(plan(place, &bin, port, settings)?)?;
            supervisor.prepare()?;
            match supervisor.start() {
                Ok(()) => {
                    return Ok(Self {
                        port,
                        supervisor: Arc::new(supervisor),
                    });
                }
                Err(_) if place.port.is_none() && supervisor.port_was_taken() && attempts < 5 => {
                    attempts += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The address of a database over TCP, for the superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The address of a database over the Unix socket, or over TCP where the folder's path is too long; for the
    /// superuser.
    pub fn socket_url(&self, database: &str) -> String {
        self.socket_url_as("postgres", database)
    }

    /// The same for any role.
    pub fn socket_url_as(&self, role: &str, database: &str) -> String {
        let folder = self.folder();
        if !has_socket(folder) {
            return format!("postgres://{role}@127.0.0.1:{}/{database}", self.port);
        }
        let host = folder
            .to_string_lossy()
            .replace('%', "%25")
            .replace('/', "%2F")
            .replace(' ', "%20");
        format!("postgres://{role}@localhost:{}/{database}?host={host}", self.port)
    }

    /// The TCP port, the same after every restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.supervisor.process().ok().flatten()
    }

    /// The folder that holds the data, the socket and `server.log`.
    pub fn folder(&self) -> &Path {
        self.supervisor.folder()
    }

    /// Ends the cluster in good order, cutting its connections.
    pub async fn stop(&self) -> Result<()> {
        self.end("INT").await
    }

    /// Crashes every process of the cluster at once: nothing is flushed, the next start recovers.
    pub async fn kill(&self) -> Result<()> {
        self.end("QUIT").await
    }

    /// Starts the cluster again on its port and data, stopping it first if it runs.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        let supervisor = Arc::clone(&self.supervisor);
        blocking(move || supervisor.start()).await
    }

    async fn end(&self, signal: &'static str) -> Result<()> {
        let supervisor = Arc::clone(&self.supervisor);
        blocking(move || supervisor.end(signal)).await
    }
}

fn has_socket(folder: &Path) -> bool {
    folder.as_os_str().len() <= LONGEST_SOCKET_FOLDER
}

/// Never leaves half a cluster behind: a new one is renamed into place.
const PREPARE: &str = r#"[ -d "$3" ] && exit
rm -rf "$3.new"
"${1%/*}/initdb" -D "$3.new" -U postgres --auth=trust -E UTF8 --locale=C SYNC && mv "$3.new" "$3""#;

fn plan(place: &Place, bin: &Path, port: u16, settings: &[String]) -> Result<Plan> {
    let user = User::instead_of_root();
    let folder = place.folder("postgres", user)?;
    let mut command = vec![bin.join("postgres").into(), "-D".into(), folder.join("data").into()];
    let mut set = |setting: String| command.extend(["-c".into(), setting.into()]);
    set(format!("port={port}"));
    set("listen_addresses=127.0.0.1".into());
    set(match has_socket(&folder) {
        true => format!("unix_socket_directories={}", folder.display()),
        false => "unix_socket_directories=".into(),
    });
    set("timezone=UTC".into());
    set("max_connections=300".into());
    // The relay that reads the log by logical replication needs it; the other one does not mind.
    set("wal_level=logical".into());
    set("max_replication_slots=128".into());
    set("max_wal_senders=128".into());
    // What nobody reads any more does not fill the disk: the slot is lost, and the relay makes another.
    set("max_slot_wal_keep_size=4GB".into());
    let durable = place.durability == Durability::Real;
    if !durable {
        set("fsync=off".into());
        set("full_page_writes=off".into());
    }
    settings.iter().cloned().for_each(set);
    Ok(Plan {
        name: "PostgreSQL".into(),
        command,
        environment: Vec::new(),
        log: "server.log".into(),
        append: false,
        prepare: PREPARE.replace("SYNC", if durable { "" } else { "--no-sync" }),
        folder,
        keep: place.kept.is_some(),
        user,
        last_signal: if place.kept.is_some() { "INT" } else { "QUIT" },
        ready_line: "database system is ready to accept connections",
    })
}
