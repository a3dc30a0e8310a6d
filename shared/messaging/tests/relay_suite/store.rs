//! What can happen to a broker's store.

use std::ops::Deref;
use std::path::PathBuf;
use std::process::Command;

use events::Owner;
use testbed::{Disk, Nats, Place};

use crate::common::{MIGRATIONS, World, eventually};

/// The broker's store as it was.
pub(super) struct Backup(PathBuf);

impl Backup {
    pub(super) async fn of(world: &World) -> Self {
        let (store, backup) = (
            world.broker.folder().join("store"),
            world.broker.folder().join("backup"),
        );
        world.broker.stop().await.unwrap();
        copy(&store, &backup);
        world.broker.restart().await.unwrap();
        world.reconnected().await;
        Self(backup)
    }

    pub(super) async fn restore(self, world: &World) {
        let store = world.broker.folder().join("store");
        world.broker.kill().await.unwrap();
        std::fs::remove_dir_all(&store).unwrap();
        copy(&self.0, &store);
        world.broker.restart().await.unwrap();
        world.reconnected().await;
    }
}

fn copy(from: &PathBuf, to: &PathBuf) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// A broker whose store is on a disk that can lose its power.
pub(super) struct Fragile {
    world: World,
    disk: Disk,
}

impl Deref for Fragile {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Fragile {
    /// Cuts the power and brings disk and broker up again; returns how many events the stream still has.
    pub(super) async fn power_fails(&self) -> u64 {
        self.disk.cut_power().unwrap();
        self.broker.kill().await.unwrap();
        self.disk.power_up().unwrap();
        self.broker.restart().await.unwrap();
        eventually("the broker answers", async || {
            self.jetstream.query_account().await.is_ok()
        })
        .await;
        match self.jetstream.get_stream(Owner::Inventory.stream()).await {
            Ok(stream) => stream.cached_info().state.messages,
            Err(_) => 0,
        }
    }
}

impl World {
    /// None where this machine can mount no disk of its own; the store that is put back by hand proves the same there.
    pub(super) async fn on_a_fragile_disk(sync_interval: &str) -> Option<Fragile> {
        let disk = Disk::new(64)
            .await
            .inspect_err(|reason| eprintln!("skipped, no disk can be mounted here: {reason:#}"))
            .ok()?;
        let store = disk.folder().display();
        let more =
            format!("jetstream {{ store_dir: \"{store}\", sync_interval: {sync_interval}, max_file_store: 20GB }}\n");
        let broker = Nats::start_with(Place::temporary(), &more).await.unwrap();
        let client = async_nats::connect(broker.url()).await.unwrap();
        let world = Self::of(testbed::database(&MIGRATIONS).await, broker, client).await;
        Some(Fragile { world, disk })
    }

    /// Waits until the stream holds so many messages.
    pub(super) async fn holds(&self, messages: u64) {
        eventually("every event is in the stream", async || {
            let stream = self.jetstream.get_stream(Owner::Inventory.stream()).await;
            match stream {
                Ok(stream) => stream.cached_info().state.messages >= messages,
                Err(_) => false,
            }
        })
        .await;
    }

    pub(super) async fn reconnected(&self) {
        eventually("the broker answers", async || {
            self.jetstream.get_stream(Owner::Inventory.stream()).await.is_ok()
        })
        .await;
    }
}
