//! Goods that come back: taken back or refused, put on the shelf or written off, and paid back to the penny.

use anyhow::{Context as _, ensure};
use e2e_tests::{Service, Wish, World, run};
use futures_util::future::join;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::deliveries::everything;
use crate::looks::{assert_caused, assert_told, ended, payment};

/// By hand, so that goods stay on their way until somebody looks at them.
const BY_HAND: (Service, &str, &str) = (Service::Warehouse, "WAREHOUSE_AUTO", "false");

#[test]
fn an_order_that_comes_back_as_a_whole_is_restocked_and_refunded() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[]).await;
        let before = on_hand(&world, "TEA-ASSAM").await?;
        let id = bought(&world, &Wish::of("TEA-ASSAM").pieces(2)).await;
        let back = world.send_back(id, &[("TEA-ASSAM", 2)]).await;
        let found = world.returned(id, back, "REFUNDED").await;
        let order = world.reached(id, "REFUNDED").await;
        ensure!(
            found["refunded"] == order["total"] && found["amount"] == order["total"],
            "{found}"
        );
        let payment = payment(&world, id).await;
        ensure!(
            payment["state"] == "REFUNDED" && payment["refunded"] == order["total"],
            "{payment}"
        );
        ensure!(on_hand(&world, "TEA-ASSAM").await? == before);
        let chain = ["OrderCompleted", "OrderReturnRequested", "ReturnReceived"];
        let told = world.timeline(id).await;
        assert_told(&told, &[&chain[..], &["InventoryRestocked", "OrderRefunded"]].concat());
        assert_told(&told, &[&chain[..], &["PaymentRefunded", "OrderRefunded"]].concat());
        assert_caused(&world, id).await;

        let (status, problem) = world.return_once(id, &[("TEA-ASSAM", 1)]).await?;
        ensure!(
            status == StatusCode::CONFLICT && problem["type"] == "/problems/order-not-returnable",
            "{problem}"
        );
        world.audit().await;
        let mails = world
            .get(Service::Email, &format!("/v1/messages?order_id={id}"))
            .await?;
        let about = mails["items"].as_array().context("no mails")?;
        let about = about.iter().filter(|mail| mail["return_id"] == back.to_string());
        let templates: Vec<_> = about.filter_map(|mail| mail["template"].as_str()).collect();
        ensure!(templates == ["order_return_requested", "order_refunded"], "{mails}");
        let summary = world.get(Service::Analytics, "/v1/summary").await?;
        let counted = (&summary["orders_returned"], &summary["refunded"], &summary["revenue"]);
        ensure!(counted == (&json!(1), &order["total"], &json!(0)), "{summary}");
        Ok(())
    })
}

#[test]
fn an_order_comes_back_line_by_line_and_never_more_than_was_bought() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[]).await;
        let id = bought(&world, &Wish::of("TEA-SENCHA").pieces(3)).await;
        let (status, problem) = world.return_once(id, &[("TEA-SENCHA", 4)]).await?;
        ensure!(
            status == StatusCode::CONFLICT && problem["type"] == "/problems/return-exceeds-order",
            "{problem}"
        );
        let one = world.send_back(id, &[("TEA-SENCHA", 1)]).await;
        let found = world.returned(id, one, "REFUNDED").await;
        let order = world.reached(id, "COMPLETED").await;
        let price = order["lines"][0]["unit_price"].as_i64().context("no price")?;
        ensure!(found["refunded"] == price, "{found}");
        let paid = payment(&world, id).await;
        ensure!(paid["state"] == "SUCCEEDED" && paid["refunded"] == price, "{paid}");

        ensure!(world.return_once(id, &[("TEA-SENCHA", 3)]).await?.0 == StatusCode::CONFLICT);
        let rest = world.send_back(id, &[("TEA-SENCHA", 1), ("TEA-SENCHA", 1)]).await;
        world.returned(id, rest, "REFUNDED").await;
        world.reached(id, "REFUNDED").await;
        ensure!(payment(&world, id).await["refunded"] == 3 * price);
        let listed = world.get(Service::Order, &format!("/v1/orders/{id}/returns")).await?;
        let listed: Vec<_> = listed["items"]
            .as_array()
            .context("no items")?
            .iter()
            .map(|one| &one["return_id"])
            .collect();
        ensure!(listed == [&json!(one), &json!(rest)], "{listed:?}");
        world.audit().await;
        Ok(())
    })
}

/// Both are open at once, answered the other way round, and a third wish finds nothing left.
#[test]
fn two_returns_of_an_order_go_their_own_ways_one_paid_back_and_one_rejected() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[BY_HAND]).await;
        let id = bought_by_hand(&world, &Wish::of("TEA-ASSAM").pieces(2)).await;
        let lines = [("TEA-ASSAM", 1)];
        let (one, other) = join(world.send_back(id, &lines), world.send_back(id, &lines)).await;
        world.reached(id, "RETURNING").await;
        let (status, _) = world.return_once(id, &lines).await?;
        ensure!(status == StatusCode::CONFLICT, "both pieces are on their way");
        let (status, _) = world.cancel(id).await?;
        ensure!(status == StatusCode::CONFLICT, "what comes back cannot be called off");

        at_the_desk(&world, other, "reject", None).await?;
        world.returned(id, other, "REJECTED").await;
        ensure!(at_the_desk(&world, other, "receive", None).await? == StatusCode::CONFLICT);
        ensure!(
            at_the_desk(&world, other, "reject", None).await? == StatusCode::OK,
            "it was done before"
        );
        world.reached(id, "RETURNING").await;
        at_the_desk(&world, one, "receive", None).await?;
        world.returned(id, one, "REFUNDED").await;
        let order = world.reached(id, "COMPLETED").await;
        let price = &order["lines"][0]["unit_price"];
        ensure!(payment(&world, id).await["refunded"] == *price);

        let again = world.send_back(id, &lines).await;
        at_the_desk(&world, again, "receive", None).await?;
        world.returned(id, again, "REFUNDED").await;
        world.reached(id, "REFUNDED").await;
        world.audit().await;
        Ok(())
    })
}

#[test]
fn damaged_goods_are_paid_back_but_never_sold_again() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[BY_HAND]).await;
        let id = bought_by_hand(&world, &Wish::of("TEA-ASSAM").pieces(3)).await;
        let before = on_hand(&world, "TEA-ASSAM").await?;
        let back = world.send_back(id, &[("TEA-ASSAM", 3)]).await;
        let line = |quantity, condition| json!({ "sku": "TEA-ASSAM", "quantity": quantity, "condition": condition });
        let short = json!({ "lines": [line(2, "damaged")] });
        ensure!(at_the_desk(&world, back, "receive", Some(short)).await? == StatusCode::UNPROCESSABLE_ENTITY);
        let opened = json!({ "lines": [line(2, "damaged"), line(1, "resellable")] });
        ensure!(at_the_desk(&world, back, "receive", Some(opened)).await? == StatusCode::OK);
        world.returned(id, back, "REFUNDED").await;
        let order = world.reached(id, "REFUNDED").await;
        ensure!(payment(&world, id).await["refunded"] == order["total"]);
        ensure!(on_hand(&world, "TEA-ASSAM").await? == before + 1);

        let broken = bought_by_hand(&world, &Wish::of("TEA-SENCHA")).await;
        let back = world.send_back(broken, &[("TEA-SENCHA", 1)]).await;
        let damaged = json!({ "lines": [{ "sku": "TEA-SENCHA", "quantity": 1, "condition": "damaged" }] });
        at_the_desk(&world, back, "receive", Some(damaged)).await?;
        world.returned(broken, back, "REFUNDED").await;
        world.audit().await;
        Ok(())
    })
}

#[test]
fn a_refund_that_fails_for_a_while_is_tried_until_it_goes_through() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[]).await;
        let id = bought(&world, &Wish::of("TEA-ASSAM").pieces(2).paid_by("pm_card_flakyRefund")).await;
        let back = join(
            world.send_back(id, &[("TEA-ASSAM", 1)]),
            world.send_back(id, &[("TEA-ASSAM", 1)]),
        );
        let (one, other) = back.await;
        world.returned(id, one, "REFUNDED").await;
        world.returned(id, other, "REFUNDED").await;
        world.reached(id, "REFUNDED").await;
        let payment = payment(&world, id).await;
        let refunds = payment["refunds"].as_array().context("no refunds")?;
        ensure!(refunds.len() == 2, "{payment}");
        for refund in refunds {
            ensure!(
                refund["state"] == "DONE" && refund["attempts"].as_i64() >= Some(3),
                "{payment}"
            );
        }
        world.audit().await;
        Ok(())
    })
}

/// Nothing else waits for it: the goods are on the shelf, other returns are paid back.
#[test]
fn a_refund_that_is_refused_for_good_waits_for_an_operator_who_has_it_tried_again() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[(Service::Order, "ATTENTION_AFTER_MS", "1000")]).await;
        let id = bought(&world, &Wish::of("TEA-ASSAM").pieces(2)).await;
        refunds(&world, "reject").await?;
        let back = world.send_back(id, &[("TEA-ASSAM", 1)]).await;
        let refused = |refund: &Value| refund["state"] == "REFUSED" && refund["trouble"] == "refund_refused";
        let queued = world.until("the refund waits for an operator", || async {
            let queue = world.get(Service::Payment, "/v1/refunds?state=REFUSED").await?;
            let found = queue["items"]
                .as_array()
                .is_some_and(|items| items.len() == 1 && refused(&items[0]));
            Ok(found.then_some(()))
        });
        queued.await?;
        ensure!(refused(&payment(&world, id).await["refunds"][0]));
        until_measured(&world, 1).await?;
        let stuck = world.until("the order needs attention", || async {
            let saga = world.get(Service::Order, &format!("/v1/orders/{id}/saga")).await?;
            Ok((saga["needs_attention"] == true && saga["state"] == "RETURNING").then_some(()))
        });
        stuck.await?;

        refunds(&world, "accept").await?;
        let other = world.send_back(id, &[("TEA-ASSAM", 1)]).await;
        world.returned(id, other, "REFUNDED").await;
        ensure!(
            retried(&world, id, other).await? == StatusCode::CONFLICT,
            "nobody refused that"
        );
        ensure!(retried(&world, id, Uuid::now_v7()).await? == StatusCode::NOT_FOUND);
        world.returned(id, back, "RECEIVED").await;
        ensure!(retried(&world, id, back).await? == StatusCode::ACCEPTED);
        world.returned(id, back, "REFUNDED").await;
        world.reached(id, "REFUNDED").await;
        until_measured(&world, 0).await?;
        world.audit().await;
        Ok(())
    })
}

#[test]
fn a_return_that_is_delivered_again_to_everybody_changes_nothing() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[]).await;
        let id = bought(&world, &Wish::of("TEA-ASSAM").pieces(2)).await;
        let back = world.send_back(id, &[("TEA-ASSAM", 1)]).await;
        world.returned(id, back, "REFUNDED").await;
        world.audit().await;
        let before = everything(&world).await?;
        world.deliver_everything_again().await?;
        world.audit().await;
        ensure!(everything(&world).await? == before);
        Ok(())
    })
}

/// The order's trace ended with its parcel, days ago; the return begins one of its own and points at the other.
#[test]
fn a_return_is_one_trace_that_is_linked_to_its_orders() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[]).await;
        let id = bought(&world, &Wish::of("TEA-ASSAM")).await;
        let url = format!("{}/v1/orders/{id}/returns", world.shop.url(Service::Order));
        let wish = json!({ "lines": [{ "sku": "TEA-ASSAM", "quantity": 1 }], "reason": "" });
        let asked = world.http.post(url).json(&wish).send().await?.error_for_status()?;
        let trace = asked
            .headers()
            .get("trace-id")
            .context("no trace")?
            .to_str()?
            .to_owned();
        let order = world.reached(id, "REFUNDED").await;
        ensure!(order["trace_id"] != trace.as_str());
        let complete = |spans: &[trace_viewer::Span]| {
            let services: std::collections::BTreeSet<_> = spans.iter().map(|span| span.service.clone()).collect();
            services.len() == 6 && spans.iter().any(|span| span.name.contains("OrderRefunded"))
        };
        let spans = world.viewer.wait_for(&trace, complete, e2e_tests::PATIENCE).await?;
        let asked = spans.iter().find(|span| span.parent_id.is_none()).context("no root")?;
        ensure!(
            asked
                .links
                .iter()
                .any(|(linked, _)| order["trace_id"] == linked.as_str()),
            "{asked:?}"
        );
        let timeline = world.get(Service::Order, &format!("/v1/orders/{id}/timeline")).await?;
        let of_return = [
            "OrderReturnRequested",
            "ReturnReceived",
            "InventoryRestocked",
            "PaymentRefunded",
            "OrderRefunded",
        ];
        for item in timeline["items"].as_array().context("no items")? {
            let expected = if of_return.contains(&item["type"].as_str().unwrap_or_default()) {
                item["trace_id"] == trace.as_str()
            } else {
                true
            };
            ensure!(expected, "{item}");
        }
        world.audit().await;
        Ok(())
    })
}

/// An order that was bought and has arrived.
async fn bought(world: &World, wish: &Wish) -> Uuid {
    let id = world.place(wish).await;
    assert_eq!(ended(&world.ended(id).await), ("COMPLETED", None));
    id
}

/// The same where the warehouse does nothing unasked.
async fn bought_by_hand(world: &World, wish: &Wish) -> Uuid {
    let id = world.place(wish).await;
    for step in ["dispatch", "deliver"] {
        let path = format!("{}/v1/shipments/{id}/{step}", world.shop.url(Service::Warehouse));
        let done = world.until("the warehouse has done it", || async {
            Ok(world.http.post(&path).send().await?.status().is_success().then_some(()))
        });
        done.await.unwrap_or_else(|error| panic!("{error:#}"));
    }
    assert_eq!(ended(&world.ended(id).await), ("COMPLETED", None));
    id
}

/// Has a return received or rejected by hand, once the warehouse knows of it.
async fn at_the_desk(world: &World, id: Uuid, what: &str, found: Option<Value>) -> anyhow::Result<StatusCode> {
    let path = format!("{}/v1/returns/{id}/{what}", world.shop.url(Service::Warehouse));
    let answered = world.until("the warehouse knows of the return", || async {
        let request = world.http.post(&path);
        let request = match &found {
            Some(found) => request.json(found),
            None => request,
        };
        let status = request.send().await?.status();
        Ok((status != StatusCode::NOT_FOUND).then_some(status))
    });
    answered.await
}

async fn on_hand(world: &World, sku: &str) -> anyhow::Result<i64> {
    let product = world.get(Service::Inventory, &format!("/v1/products/{sku}")).await?;
    product["on_hand"].as_i64().context("no such product")
}

/// What the gateway does with refunds: `accept`, or `reject` for good.
async fn refunds(world: &World, mode: &str) -> anyhow::Result<()> {
    let url = format!("{}/sandbox/refunds/{mode}", world.shop.gateway_url());
    world.http.post(url).send().await?.error_for_status()?;
    Ok(())
}

async fn retried(world: &World, order: Uuid, id: Uuid) -> anyhow::Result<StatusCode> {
    let payment = world.shop.url(Service::Payment);
    let url = format!("{payment}/v1/payments/{order}/refunds/{id}/retry");
    Ok(world.http.post(url).send().await?.status())
}

/// Waits until so many refunds are measured as refused.
async fn until_measured(world: &World, refused: u64) -> anyhow::Result<()> {
    let url = format!("{}/metrics", world.shop.admin_url(Service::Payment));
    let measured = world.until("the metric says so", || async {
        let metrics = world.http.get(&url).send().await?.text().await?;
        let mut gauges = metrics.lines().filter(|line| line.starts_with("shop_refunds_refused"));
        let gauge = gauges.next().context("no gauge")?;
        Ok((gauge.rsplit(' ').next() == Some(&refused.to_string())).then_some(()))
    });
    measured.await
}
