//! What a shop that runs shows of itself at `/metrics`, on a page of docs that cannot be wrong about it.

mod page;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use e2e_tests::{Service, Wish, World, run};

use page::Metrics;

const PAGE: &str = "docs/metrics.md";

/// Whatever can be measured has been: orders of every kind, a return, a redelivery, a dead letter.
#[test]
fn the_page_of_metrics_shows_what_a_running_shop_shows() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[(Service::Payment, "GATEWAY_TIMEOUT_MS", "1000")]).await;
        sell_and_take_back(&world).await;
        deliver_again(&world).await?;
        tell_nonsense(&world).await?;

        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PAGE);
        if std::env::var("UPDATE_DOCS").is_ok_and(|wish| wish == "1") {
            let mut written = String::new();
            // Some are measured now and then only: the page is done when it stays as it is.
            let settled = world.until("nothing new is measured", || async {
                let page = page::of(&measured(&world).await?);
                Ok((page.contains("shop_dead_letters_total") && page.contains("error_type")).then_some(page))
            });
            written.push_str(&settled.await?);
            return Ok(fs::write(file, written)?);
        }
        let committed = fs::read_to_string(file)?;
        let compared = world.until("the page is as the shop is; `cargo shop docs` writes it", || async {
            let page = page::of(&measured(&world).await?);
            let differs = page.lines().zip(committed.lines()).find(|(new, old)| new != old);
            ensure!(page == committed, "{differs:?}");
            Ok(Some(()))
        });
        compared.await
    })
}

/// What all services show, together.
async fn measured(world: &World) -> anyhow::Result<Metrics> {
    let mut all = Metrics::new();
    for service in Service::ALL {
        let address = format!("{}/metrics", world.shop.admin_url(service));
        let text = world.http.get(address).send().await?.text().await?;
        page::read(&text, &mut all);
    }
    Ok(all)
}

async fn sell_and_take_back(world: &World) {
    let wish = Wish::of("TEA-ASSAM");
    let sold = world.place(&wish).await;
    for other in [
        wish.clone().paid_by("pm_card_chargeDeclined"),
        wish.clone().paid_by("pm_card_timeoutAfterCharge"),
        wish.to("XX"),
    ] {
        let id = world.place(&other).await;
        world.ended(id).await;
    }
    world.ended(sold).await;
    let back = world.send_back(sold, &[("TEA-ASSAM", 1)]).await;
    world.returned(sold, back, "REFUNDED").await;
}

/// Inventory dies when it has committed and not acknowledged an event, and hears it again.
async fn deliver_again(world: &World) -> anyhow::Result<()> {
    world.redeliver_after(Duration::from_millis(500)).await?;
    let point = "consumer.unacknowledged";
    world.shop.arm(Service::Inventory, point, "abort")?;
    let id = world.place(&Wish::of("TEA-ASSAM")).await;
    world.died(Service::Inventory, point).await?;
    world.shop.start_service(Service::Inventory).await?;
    world.ended(id).await;
    Ok(())
}

/// A message that is no event becomes a dead letter of whoever hears its subject.
#[allow(clippy::disallowed_methods, reason = "a misbehaving producer is what is played here")]
async fn tell_nonsense(world: &World) -> anyhow::Result<()> {
    let jetstream = world.jetstream().await?;
    let told = jetstream.publish("shop.order.OrderPlaced", "nonsense".into()).await?;
    told.await?;
    Ok(())
}
