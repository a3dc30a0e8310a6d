//! Sagas never stick: what is lost, refused or crossed is resolved by a deadline, by trying again, or by a human who is
//! told that they are needed.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e_tests::{PATIENCE, Service, Wish, World, run};
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::Value;
use uuid::Uuid;

use crate::looks::{ended, payment, reservation};

/// Row 31: while the gateway refuses refunds the order stays CANCELLING, the attempts are counted, and before long it
/// needs attention in its saga and in a metric; once they are taken everything is undone.
///
/// "Before long" is two minutes by default and a second and a half here.
#[test]
fn a_refused_refund_is_tried_until_it_is_taken_and_is_visible_meanwhile() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[(Service::Order, "ATTENTION_AFTER_MS", "1500")]).await;
        refunds(&world, "refuse").await?;
        let id = world.place(&Wish::of("TEA-ASSAM").to("XX")).await;
        let saga = needs_attention(&world, id).await?;
        ensure!(saga["state"] == "CANCELLING", "{saga}");
        let steps = saga["steps"].as_array().context("no steps")?;
        let paying = steps.iter().find(|step| step["name"] == "take_payment");
        ensure!(paying.is_some_and(|step| step["state"] == "COMPENSATING"), "{saga}");
        let tried = world.until("the refund was tried four times", || async {
            let payment = payment(&world, id).await;
            ensure!(payment["state"] == "REFUNDING", "{payment}");
            let often = payment["refund_attempts"].as_i64() >= Some(4) && payment["trouble"].is_string();
            Ok(often.then_some(()))
        });
        tried.await?;
        until_stuck(&world, "CANCELLING", 1).await?;

        refunds(&world, "accept").await?;
        ensure!(ended(&world.ended(id).await) == ("CANCELLED", Some("SHIPPING_FAILED")));
        ensure!(payment(&world, id).await["state"] == "REFUNDED");
        ensure!(saga_of(&world, id).await?["needs_attention"] == false);
        until_stuck(&world, "CANCELLING", 0).await?;
        world.audit().await;
        Ok(())
    })
}

/// Row 33: an event that is lost before the payment is made up for by the deadline: everything is undone.
///
/// The whole audit would find the hole in the sequence of events, so the end is looked at by hand.
#[test]
fn an_order_whose_reservation_was_never_told_is_undone_by_its_deadline() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[(Service::Order, "ORDER_PAY_WITHIN_MS", "2000")]).await;
        world.shop.arm(Service::Inventory, "relay.read", "abort")?;
        let id = world.place(&Wish::of("TEA-ASSAM")).await;
        lose(&world, Service::Inventory, id, "InventoryReserved").await?;
        ensure!(ended(&world.ended(id).await) == ("CANCELLED", Some("DEADLINE_EXCEEDED")));
        nothing_is_left_of(&world, id).await
    })
}

/// Row 33: an event that is lost after the payment makes the order one that needs attention; cancelling it, as an
/// operator would, undoes everything.
#[test]
fn an_order_whose_confirmation_was_never_told_needs_attention_and_can_be_cancelled() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[(Service::Order, "ATTENTION_AFTER_MS", "1000")]).await;
        world.shop.pause(Service::Payment).await?;
        let id = world.place(&Wish::of("TEA-ASSAM")).await;
        world.reached(id, "RESERVED").await;
        world.shop.arm(Service::Order, "relay.read", "abort")?;
        world.shop.resume(Service::Payment).await?;
        lose(&world, Service::Order, id, "OrderConfirmed").await?;
        let saga = needs_attention(&world, id).await?;
        ensure!(saga["state"] == "CONFIRMED", "{saga}");
        until_stuck(&world, "CONFIRMED", 1).await?;
        let listed = world.get(Service::Order, "/v1/orders?needs_attention=true").await?;
        ensure!(listed["items"][0]["id"] == id.to_string(), "{listed}");

        let (status, _) = world.cancel(id).await?;
        ensure!(status == StatusCode::ACCEPTED);
        ensure!(ended(&world.ended(id).await) == ("CANCELLED", Some("REQUESTED_BY_CUSTOMER")));
        ensure!(payment(&world, id).await["state"] == "REFUNDED");
        nothing_is_left_of(&world, id).await
    })
}

/// Row 32: whenever a customer changes their mind, the order is either completed or undone, and the money agrees.
#[test]
fn cancellations_that_cross_payments_at_random_end_one_way_or_the_other() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[]).await;
        let cards = [
            "pm_card_visa",
            "pm_card_timeoutAfterCharge",
            "pm_card_flaky",
            "pm_card_slow",
        ];
        let crossed = (0..60).map(|number| {
            let (world, wish) = (&world, Wish::of("TEA-ASSAM").paid_by(cards[number % cards.len()]));
            async move {
                let id = world.place_stubbornly(&wish).await?;
                // Any moment will do, and none may do harm.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..600))).await;
                let (status, body) = world.cancel(id).await?;
                let known = [StatusCode::ACCEPTED, StatusCode::OK, StatusCode::CONFLICT];
                ensure!(known.contains(&status), "{status}: {body}");
                anyhow::Ok(id)
            }
        });
        for id in join_all(crossed).await {
            world.ended(id?).await;
        }
        world.audit().await;
        Ok(())
    })
}

/// Row 41: orders complete while the email service is down, and when it is back every mail is sent once.
#[test]
fn orders_complete_without_the_email_service_and_their_mails_follow() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[]).await;
        world.shop.kill(Service::Email).await?;
        let wish = Wish::of("TEA-ASSAM");
        let ids = join_all((0..20).map(|_| world.place(&wish))).await;
        for id in &ids {
            ensure!(ended(&world.ended(*id).await) == ("COMPLETED", None));
        }
        ensure!(
            std::fs::read_dir(world.shop.mail_dir())?.count() == 0,
            "nobody is there to send mail"
        );
        world.shop.start_service(Service::Email).await?;
        world.audit().await;
        let sent = std::fs::read_dir(world.shop.mail_dir())?.count();
        ensure!(sent == 2 * ids.len(), "{sent} mails for {} orders", ids.len());
        world.shop.drained(PATIENCE).await
    })
}

/// Whether the gateway takes refunds: `accept` or `refuse`.
async fn refunds(world: &World, mode: &str) -> anyhow::Result<()> {
    let url = format!("{}/sandbox/refunds/{mode}", world.shop.gateway_url());
    world.http.post(url).send().await?.error_for_status()?;
    Ok(())
}

/// Deletes an event of a service that has just died with it in its outbox, and starts the service again.
async fn lose(world: &World, service: Service, id: Uuid, event: &str) -> anyhow::Result<()> {
    world.died(service, "relay.read").await?;
    let delete = "delete from outbox where subject = $1 and event_type like '%.' || $2 || '.%'";
    let lost = sqlx::query(delete).bind(id.to_string()).bind(event);
    let lost = lost.execute(&world.pool(service).await?).await?.rows_affected();
    ensure!(lost == 1, "{lost} events were lost");
    world.shop.start_service(service).await
}

async fn saga_of(world: &World, id: Uuid) -> anyhow::Result<Value> {
    world.get(Service::Order, &format!("/v1/orders/{id}/saga")).await
}

/// The saga once it says that somebody has to look at it.
async fn needs_attention(world: &World, id: Uuid) -> anyhow::Result<Value> {
    let looked = world.until("the order needs attention", || async {
        let saga = saga_of(world, id).await?;
        Ok((saga["needs_attention"] == true).then_some(saga))
    });
    looked.await
}

/// Waits until so many orders in this state are measured as stuck.
async fn until_stuck(world: &World, state: &str, orders: u64) -> anyhow::Result<()> {
    let (url, label) = (
        format!("{}/metrics", world.shop.admin_url(Service::Order)),
        format!("state=\"{state}\""),
    );
    let measured = world.until("the metric says so", || async {
        let metrics = world.http.get(&url).send().await?.text().await?;
        let mut gauges = metrics.lines().filter(|line| line.starts_with("shop_sagas_stuck"));
        let gauge = gauges.find(|line| line.contains(&label)).context("no gauge")?;
        Ok((gauge.rsplit(' ').next() == Some(&orders.to_string())).then_some(()))
    });
    measured.await
}

/// Nothing is charged, held or sent for the order.
async fn nothing_is_left_of(world: &World, id: Uuid) -> anyhow::Result<()> {
    let (payment, reservation) = (payment(world, id).await, reservation(world, id).await);
    ensure!(payment["captured"] == payment["refunded"], "{payment}");
    ensure!(reservation["state"] == "RELEASED", "{reservation}");
    let shipment = world.get(Service::Warehouse, &format!("/v1/shipments/{id}")).await?;
    ensure!(
        shipment["state"] == "CANCELLED" || shipment["status"] == 404,
        "{shipment}"
    );
    let product = world.get(Service::Inventory, "/v1/products/TEA-ASSAM").await?;
    ensure!(product["reserved"] == 0, "{product}");
    ensure!(saga_of(world, id).await?["needs_attention"] == false);
    Ok(())
}
