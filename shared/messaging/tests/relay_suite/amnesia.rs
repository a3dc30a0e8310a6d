//! What the broker forgets although it had acknowledged it is published again, once.

use events::Owner;
use messaging::provision;

use super::RELAY;
use crate::common::{World, assert_in_order, fill};
use crate::relay_suite::store::Backup;

/// Rows 10, 11: the store is that of an hour ago, as after a power cut or from a backup.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_lost_with_its_disk_is_published_again_once() {
    let world = World::new().await;
    let _first = world.replica().await.relaying_by(RELAY);
    let _second = world.replica().await.relaying_by(RELAY);
    publish(&world, 300).await;
    let backup = Backup::of(&world).await;
    for _ in 0..3 {
        publish(&world, 70).await;
    }
    backup.restore(&world).await;

    world.holds(300 + 3 * 70).await;
    assert_in_order(&world.stream().await);
    publish(&world, 5).await;
    assert_eq!(world.stream().await.len(), 300 + 3 * 70 + 5);
}

/// Row 10: the power fails under a broker that had acknowledged and not synced; the relay's archive heals it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_and_never_synced_survives_a_power_cut() {
    let Some(world) = World::on_a_fragile_disk("\"2m\"").await else {
        return;
    };
    let _relay = world.replica().await.relaying_by(RELAY);
    publish(&world, 300).await;
    assert!(
        world.power_fails().await < 300,
        "a broker that does not sync loses something"
    );
    provision::streams(&world.jetstream, &provision::Settings::default())
        .await
        .unwrap();
    world.holds(300).await;
    assert_in_order(&world.stream().await);
}

/// Row 10: with `sync_interval: always`, as in every configuration of this project, there is nothing to heal.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_syncs_always_loses_nothing_in_a_power_cut() {
    let Some(world) = World::on_a_fragile_disk("always").await else {
        return;
    };
    let relay = world.replica().await.relaying_by(RELAY);
    publish(&world, 300).await;
    relay.stop().await;
    assert_eq!(world.power_fails().await, 300);
}

/// Row 10: what came later may stand where the forgotten events stood, and beyond.
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_found_beneath_what_was_published_after_the_loss() {
    let world = World::new().await;
    let relay = world.replica().await.relaying_by(RELAY);
    publish(&world, 20).await;
    let backup = Backup::of(&world).await;
    publish(&world, 20).await;
    relay.stop().await;
    backup.restore(&world).await;
    let archived = "select coalesce(max(stream_sequence), 0) from outbox_archive";
    let highest = world.count(archived).await;
    for _ in 20..highest + 5 {
        publish_foreign(&world).await;
    }

    let _relay = world.replica().await.relaying_by(RELAY);
    world.holds(20 + 25 + 20).await;
    let told = world.stream().await;
    let ours: Vec<_> = told.into_iter().filter(|told| told.subject != "foreign").collect();
    assert_eq!(ours.len(), 40);
    assert_in_order(&ours);
}

/// Row 11: a stream made anew that has outgrown the old one before anybody looked is filled as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_stream_that_outgrew_the_old_one_is_filled_as_well() {
    let world = World::new().await;
    let relay = world.replica().await.relaying_by(RELAY);
    publish(&world, 20).await;
    world.jetstream.delete_stream(Owner::Inventory.stream()).await.unwrap();
    provision::streams(&world.jetstream, &provision::Settings::default())
        .await
        .unwrap();
    publish(&world, 100).await;
    relay.stop().await;

    let _next = world.replica().await.relaying_by(RELAY);
    world.holds(120).await;
    assert_eq!(world.stream().await.len(), 120);
}

/// Row 11: the provisioner makes the stream anew, and the archive fills it.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_is_filled_again_once_it_is_provisioned() {
    let world = World::new().await;
    let _relay = world.replica().await.relaying_by(RELAY);
    publish(&world, 250).await;
    world.jetstream.delete_stream(Owner::Inventory.stream()).await.unwrap();
    fill(&world.pool, 10, 2).await;
    provision::streams(&world.jetstream, &provision::Settings::default())
        .await
        .unwrap();

    world.holds(260).await;
    assert_in_order(&world.stream().await);
    world.all_published().await;
}

/// The question costs one lookup, and the answer is no.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_forgot_nothing_is_sent_nothing_again() {
    let world = World::new().await;
    for rows in [1, 500, 7] {
        let relay = world.replica().await.relaying_by(RELAY);
        publish(&world, rows).await;
        world.broker.kill().await.unwrap();
        world.broker.restart().await.unwrap();
        publish(&world, 1).await;
        relay.stop().await;
    }
    let mut stream = world.jetstream.get_stream(Owner::Inventory.stream()).await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.last_sequence, 511);
}

async fn publish(world: &World, events: i32) {
    fill(&world.pool, events, 7).await;
    world.all_published().await;
}

/// A message at the end of the stream that no outbox ever held.
async fn publish_foreign(world: &World) {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("ce-subject", "foreign");
    headers.insert("ce-sequence", "1");
    let told = world
        .jetstream
        .publish_with_headers("shop.inventory.InventoryReleased", headers, "{}".into());
    told.await.unwrap().await.unwrap();
}
