//! What happens when the broker forgets what it had acknowledged: everybody hears it again, once.

use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use e2e_tests::{TELLERS, World, run};

use crate::faults::{accepted, all_end_well, under_load};

/// Rows 10, 11: the store is put back to what it was some orders ago, as a power cut or a backup would.
#[test]
fn orders_end_well_although_the_broker_lost_its_latest_events() {
    run(async {
        let world = World::open(&[]).await;
        let nats = world.shop.nats();
        let (store, backup) = (nats.folder().join("store"), nats.folder().join("backup"));
        let forgetting = async {
            accepted(&world, 30).await?;
            nats.stop().await?;
            copy(&store, &backup)?;
            nats.restart().await?;
            accepted(&world, 70).await?;
            nats.kill().await?;
            std::fs::remove_dir_all(&store)?;
            copy(&backup, &store)?;
            nats.restart().await
        };
        let placed = under_load(&world, 110, forgetting).await;
        world.remembered().await;
        all_end_well(&world, placed).await;
    });
}

/// Row 11: all streams and durables are deleted, and made anew by the provisioner.
#[test]
fn orders_end_well_although_every_stream_was_deleted() {
    run(async {
        let world = World::open(&[]).await;
        let deleting = async {
            accepted(&world, 40).await?;
            let jetstream = world.jetstream().await?;
            for service in TELLERS {
                jetstream.delete_stream(service.name().to_uppercase()).await?;
            }
            accepted(&world, 55).await?;
            world.provision().await
        };
        let placed = Box::pin(under_load(&world, 90, deleting)).await;
        world.remembered().await;
        all_end_well(&world, placed).await;
    });
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(copied.success(), "cannot copy {}", from.display());
    Ok(())
}
