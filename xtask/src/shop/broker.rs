//! The broker of a shop: one server, or three on loopback that all keep every stream.

use anyhow::{Result, ensure};
use messaging::provision::Settings;
use testbed::{Cluster, Place};

use super::options::{Home, ShopOptions};

/// The folders of a shop's servers: of the one that stands alone, and of the three that do not.
pub const BROKER_FOLDERS: [&str; 4] = ["nats", "nats-1", "nats-2", "nats-3"];

/// Starts the servers, and returns once streams can be made.
///
/// A kept home has one broker at a time. What the other kind has stored would be out of date when it is used again, so
/// it goes; the relays publish what the new one does not hold.
pub(super) async fn start(home: &Home, options: &ShopOptions) -> Result<Cluster> {
    let (alone, clustered) = BROKER_FOLDERS.split_at(1);
    let (folders, others) = match options.brokers {
        1 => (alone, clustered),
        3 => (clustered, alone),
        other => anyhow::bail!("a broker has one server or three, not {other}"),
    };
    ensure!(
        options.brokers == 1 || !options.proxied,
        "a link that can be made to fail leads to one server, and a client of three knows another way"
    );
    others.iter().try_for_each(|folder| home.forget(folder))?;
    let place = |(folder, port): (&&str, u16)| -> Place {
        let port = options.nats_port.map(|first| first + port);
        home.place(folder, port, options.durability)
    };
    Cluster::start(folders.iter().zip(0..).map(place).collect(), "").await
}

/// How the streams are to be: every server keeps each of them.
pub(super) fn settings(options: &ShopOptions) -> Settings {
    Settings {
        replicas: options.brokers,
        ..options.provision
    }
}
