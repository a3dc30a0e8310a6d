//! Nobody can do what it need not: what is refused, in the words of who refuses, and beside it the same that is allowed.

mod broker;
mod databases;
mod guest;

use e2e_tests::{Service, Wish, World, run};
use events::Owner;
use reqwest::StatusCode;
use serde_json::json;
use testbed::Scratch;
use tokio::sync::OnceCell;

/// A shop in which everybody has the rights that it needs; what is refused here leaves no trace in it.
async fn secured() -> &'static World {
    static SECURED: OnceCell<World> = OnceCell::const_new();
    SECURED.get_or_init(|| World::open(&[])).await
}

/// A happy order, a return and a replay take nothing that is not granted.
#[test]
fn a_shop_sells_and_takes_back_without_being_refused_anything() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[]).await;
        let id = world.place(&Wish::of("TEA-ASSAM").pieces(2)).await;
        assert_eq!(world.ended(id).await["state"], "COMPLETED");
        replayed(&world).await?;
        let back = world.send_back(id, &[("TEA-ASSAM", 2)]).await;
        world.returned(id, back, "REFUNDED").await;
        world.audit().await;
        assert_eq!(world.violations(), Vec::<String>::new());

        // And what is not granted would show.
        let mut guest = guest::Guest::of(&world, "order").await?;
        guest.is_refused("shop.payment.PaymentSucceeded").await?;
        assert_eq!(world.violations().len(), 1, "{:?}", world.violations());
        Ok(())
    })
}

/// Databases, streams and durables of a shop that knew no rights are taken over, and nothing is told or heard once more.
#[test]
fn a_shop_that_was_open_to_all_goes_on_when_it_is_secured() -> anyhow::Result<()> {
    run(async {
        let home = Scratch::new("kept").await?;
        let world = World::open_to_all(Some(home.path().to_owned())).await;
        let before = world.place(&Wish::of("TEA-ASSAM")).await;
        world.ended(before).await;
        world.audit().await;
        let told = told(&world).await?;
        world.shop.shutdown().await?;

        let world = World::open_kept(home.path().to_owned()).await;
        assert_eq!(world.order(before).await?["state"], "COMPLETED");
        assert_eq!(self::told(&world).await?, told);
        let after = world.place(&Wish::of("TEA-ASSAM")).await;
        assert_eq!(world.ended(after).await["state"], "COMPLETED");
        world.audit().await;
        world.shop.shutdown().await
    })
}

/// How many events the streams have ever taken.
async fn told(world: &World) -> anyhow::Result<u64> {
    let (jetstream, mut told) = (world.jetstream().await?, 0);
    for owner in Owner::ALL {
        let stream = jetstream.get_stream(owner.stream()).await?;
        told += stream.cached_info().state.last_sequence;
    }
    Ok(told)
}

/// The right to read the log is given where it is asked for; slot and end of a predecessor are the application's own matter.
#[test]
fn the_relay_reads_the_log_as_an_application_that_owns_nothing() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[(Service::Order, "RELAY", "cdc")]).await;
        for life in 1..=2 {
            let follows = world.until("the relay follows the log", || async {
                let log = world.shop.log(Service::Order);
                let followed = log.matches("events are published as the log tells of them").count();
                Ok((followed == life).then_some(()))
            });
            follows.await?;
            let id = world.place(&Wish::of("TEA-ASSAM")).await;
            assert_eq!(world.ended(id).await["state"], "COMPLETED");
            if life == 1 {
                world.shop.kill(Service::Order).await?;
                world.shop.start_service(Service::Order).await?;
            }
        }
        let may = "select rolname::text from pg_roles where rolreplication and not rolsuper and rolname like 'shop%'";
        let may: Vec<String> = sqlx::query_scalar(may)
            .fetch_all(&world.pool(Service::Order).await?)
            .await?;
        let asked = std::env::var("SHOP_RELAY").is_ok();
        assert!(asked || may == [Service::Order.application()], "{may:?}");
        world.audit().await;
        Ok(())
    })
}

/// Without the owner's address there is an answer that says what is missing; what needs no new tables works.
#[test]
fn a_replay_without_the_owner_is_refused_in_a_sentence() -> anyhow::Result<()> {
    run(async {
        let world = World::open(&[(Service::Analytics, "OWNER_DATABASE_URL", "")]).await;
        let id = world.place(&Wish::of("TEA-ASSAM")).await;
        world.ended(id).await;
        let url = format!("{}/admin/replay", world.shop.admin_url(Service::Analytics));
        let refused = world.http.post(&url).json(&json!({})).send().await?;
        assert_eq!(refused.status(), StatusCode::CONFLICT);
        let problem: serde_json::Value = refused.json().await?;
        assert_eq!(problem["type"], "/problems/replay-needs-owner", "{problem}");
        let one = world.http.post(&url).json(&json!({ "order": id })).send().await?;
        assert_eq!(one.status(), StatusCode::ACCEPTED);
        let done = world.until("the order is recomputed", || async {
            let report: serde_json::Value = world.http.get(&url).send().await?.json().await?;
            anyhow::ensure!(report["phase"] != "failed", "{report}");
            Ok((report["phase"] == "done").then_some(()))
        });
        done.await
    })
}

/// Builds analytics anew, which reads all streams and exchanges tables.
async fn replayed(world: &World) -> anyhow::Result<()> {
    let url = format!("{}/admin/replay", world.shop.admin_url(Service::Analytics));
    let asked = world.http.post(&url).send().await?;
    assert_eq!(asked.status(), StatusCode::ACCEPTED);
    let exchanged = world.until("the tables are exchanged", || async {
        let report: serde_json::Value = world.http.get(&url).send().await?.json().await?;
        anyhow::ensure!(report["phase"] != "failed", "{report}");
        Ok((report["exchanged"] == true).then_some(()))
    });
    exchanged.await
}
