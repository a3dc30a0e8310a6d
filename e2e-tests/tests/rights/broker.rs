//! What the broker refuses: foreign events, foreign durables, streams and inboxes.

use anyhow::{Result, ensure};
use async_nats::StatusCode;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use e2e_tests::{PATIENCE, Service, Wish, run};
use events::Owner;
use serde_json::{Value, json};
use xtask::shop::{OPERATOR, PROVISIONER};

use super::guest::Guest;
use super::secured;

async fn told(guest: &Guest, owner: Owner) -> Result<u64> {
    Ok(guest
        .jetstream
        .get_stream(owner.stream())
        .await?
        .cached_info()
        .state
        .last_sequence)
}

#[test]
fn a_service_tells_its_own_events_and_nobody_elses() -> Result<()> {
    run(async {
        let world = secured().await;
        let operator = Guest::of(world, OPERATOR).await?;
        for service in Service::ALL {
            let mut guest = Guest::of(world, service.name()).await?;
            for owner in Owner::ALL {
                let (subject, before) = (format!("shop.{}.Forged", owner.name()), told(&operator, owner).await?);
                if owner.name() == service.name() {
                    let answer: Value = serde_json::from_slice(&guest.asks(&subject, &json!({})).await?.payload)?;
                    ensure!(answer["seq"].as_u64() > Some(before), "{subject}: {answer}");
                } else {
                    guest.is_refused(&subject).await?;
                }
            }
        }
        Ok(())
    })
}

#[test]
fn a_service_hears_through_its_own_durables_and_nobody_elses() -> Result<()> {
    run(async {
        let world = secured().await;
        let id = world.place(&Wish::of("TEA-ASSAM")).await;
        world.ended(id).await;
        world.shop.drained(PATIENCE).await?;
        for service in Service::ALL {
            let mut guest = Guest::of(world, service.name()).await?;
            for other in Service::ALL {
                for stream in other.hears().subjects.keys().copied().chain(["ADVISORIES"]) {
                    let next = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{other}");
                    if other == service {
                        let answer = guest.asks(&next, &json!({ "batch": 1, "no_wait": true })).await?;
                        ensure!(answer.status == Some(StatusCode::NOT_FOUND), "{next}: {answer:?}");
                    } else {
                        guest.is_refused(&next).await?;
                        guest.is_refused(&format!("$JS.ACK.{stream}.{other}.1.1.1.1.1")).await?;
                    }
                }
            }
        }
        Ok(())
    })
}

/// Requests that change a stream or a consumer of somebody else, or would steal what it is to hear.
fn management() -> Vec<String> {
    let requests = [
        "STREAM.CREATE.EVIL",
        "STREAM.UPDATE.ORDER",
        "STREAM.DELETE.ORDER",
        "STREAM.PURGE.ORDER",
        "STREAM.MSG.DELETE.ORDER",
        "STREAM.SNAPSHOT.ORDER",
        "STREAM.RESTORE.ORDER",
        "STREAM.NAMES",
        "CONSUMER.CREATE.ORDER",
        "CONSUMER.CREATE.ORDER.email",
        "CONSUMER.CREATE.ORDER.email.shop.order.OrderPlaced",
        "CONSUMER.DURABLE.CREATE.ORDER.evil",
        "CONSUMER.DELETE.ORDER.email",
        "CONSUMER.PAUSE.ORDER.email",
        "CONSUMER.RESET.ORDER.email",
        "CONSUMER.NAMES.ORDER",
    ];
    requests.map(|request| format!("$JS.API.{request}")).into()
}

#[test]
fn a_service_manages_no_stream_and_no_consumer() -> Result<()> {
    run(async {
        let world = secured().await;
        for service in Service::ALL {
            let mut guest = Guest::of(world, service.name()).await?;
            for request in management() {
                guest.is_refused(&request).await?;
            }
            for other in [
                "$KV.SCHEMAS.evil",
                "$KV.EVIL.contracts",
                "$SYS.REQ.USER.INFO",
                "_INBOX_operator.1",
            ] {
                guest.is_refused(other).await?;
            }
            ensure!(guest.jetstream.get_key_value("SCHEMAS").await.is_ok());
        }
        Ok(())
    })
}

/// Who reads whole streams makes consumers for that, but never under the name of a durable.
#[test]
fn who_replays_or_audits_cannot_touch_a_durable() -> Result<()> {
    run(async {
        let world = secured().await;
        for user in [OPERATOR, Service::Analytics.name()] {
            let mut guest = Guest::of(world, user).await?;
            for request in ["CREATE", "DELETE", "MSG.NEXT"] {
                guest
                    .is_refused(&format!("$JS.API.CONSUMER.{request}.ORDER.email"))
                    .await?;
            }
            guest.is_refused("shop.order.OrderPlaced").await?;
            // The name in the request counts, not the one in its body.
            let config = json!({ "durable_name": "email", "ack_policy": "explicit", "deliver_policy": "all" });
            let request = json!({ "stream_name": "ORDER", "config": config });
            guest.is_told_no("CONSUMER.CREATE.ORDER.mine", &request).await?;
            guest.is_refused("$JS.API.CONSUMER.CREATE.ORDER").await?;

            let config = OrderedConfig {
                name: Some(format!("{user}_reads")),
                ..OrderedConfig::default()
            };
            let stream = guest.jetstream.get_stream("ORDER").await?;
            stream.create_consumer(config).await?.messages().await?;
        }
        Ok(())
    })
}

#[test]
fn the_provisioner_makes_streams_but_reads_and_tells_nothing() -> Result<()> {
    run(async {
        let world = secured().await;
        world.provision().await?;
        let mut guest = Guest::of(world, PROVISIONER).await?;
        for request in [
            "shop.order.OrderPlaced",
            "$JS.API.STREAM.DELETE.ORDER",
            "$JS.API.STREAM.PURGE.ORDER",
            "$JS.API.STREAM.MSG.GET.ORDER",
            "$JS.API.CONSUMER.MSG.NEXT.ORDER.email",
            "$KV.SCHEMAS.contracts",
        ] {
            guest.is_refused(request).await?;
        }
        Ok(())
    })
}

#[test]
fn nobody_reads_anothers_answers_or_listens_to_events_on_their_way() -> Result<()> {
    run(async {
        let world = secured().await;
        let users = Service::ALL
            .map(Service::name)
            .into_iter()
            .chain([OPERATOR, PROVISIONER]);
        for user in users {
            let mut guest = Guest::of(world, user).await?;
            for foreign in [
                "_INBOX_someone.>",
                "_INBOX.>",
                ">",
                "shop.>",
                "$JS.>",
                "$JS.EVENT.ADVISORY.>",
            ] {
                guest.is_refused_to_listen(foreign).await?;
            }
            for other in ["order", "payment"].into_iter().filter(|other| *other != user) {
                guest.is_refused_to_listen(&format!("_INBOX_{other}.>")).await?;
            }
            // What it may listen to is how it hears of anything: the broker answers.
            guest.client.flush().await?;
            ensure!(user == PROVISIONER || guest.jetstream.get_key_value("SCHEMAS").await.is_ok());
        }
        Ok(())
    })
}

#[test]
fn who_is_nobody_is_not_let_in() -> Result<()> {
    run(async {
        let world = secured().await;
        let address = world.shop.nats().url();
        let nobody = async_nats::connect(&address).await;
        ensure!(nobody.is_err(), "without a name");
        let options = async_nats::ConnectOptions::with_user_and_password("order".into(), "order".into());
        let refused = options.connect(&address).await;
        ensure!(
            refused.is_err_and(|error| error.kind() == async_nats::ConnectErrorKind::AuthorizationViolation),
            "with a wrong password"
        );
        Guest::of(world, "order").await?;
        Ok(())
    })
}
