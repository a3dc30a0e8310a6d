//! Our books and the gateway's: that they match, and that whatever does not is named.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use e2e_tests::{Service, Wish, World, run};
use uuid::Uuid;
use xtask::audit::reconcile::{Kind, Reconciliation, reconcile};
use xtask::audit::{Rebuilt, rebuild_payments};

async fn reconciled(world: &World) -> anyhow::Result<Reconciliation> {
    let database = world.shop.database_url(Service::Payment);
    reconcile(&database, &world.shop.gateway_url(), Duration::ZERO).await
}

async fn rebuilt(world: &World) -> Rebuilt {
    let database = world.shop.database_url(Service::Payment);
    rebuild_payments(&database, |_| {})
        .await
        .unwrap_or_else(|error| panic!("{error:#}"))
}

/// Does to payment's database what nothing in the shop may do.
async fn tamper(world: &World, statements: &str, order: Uuid) -> anyhow::Result<()> {
    let pool = world.pool(Service::Payment).await?;
    let free = "alter table payments drop constraint if exists payments_capture_all_or_nothing,
                    drop constraint if exists payments_refund_within_capture,
                    drop constraint if exists payments_refunded_in_full,
                    drop constraint if exists payments_void_took_nothing";
    sqlx::query(free).execute(&pool).await?;
    let statements = statements.replace("ORDER", &format!("'{order}'"));
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(&pool).await?;
    Ok(())
}

async fn charge(world: &World, order: Uuid) -> anyhow::Result<()> {
    let fields = [
        ("amount", "100"),
        ("currency", "eur"),
        ("payment_method", "pm_card_visa"),
        ("confirm", "true"),
        ("metadata[order_id]", &order.to_string()),
    ];
    let request = world
        .http
        .post(format!("{}/v1/payment_intents", world.shop.gateway_url()))
        .form(&fields);
    let request = request
        .bearer_auth("sk_test_tidings")
        .header("idempotency-key", Uuid::now_v7().to_string());
    let status = request.send().await?.status();
    ensure!(status.is_success(), "{status}");
    Ok(())
}

/// Until every kind is found for this order, and it is: a charge of this very second is young however short the grace.
async fn assert_named(world: &World, order: Uuid, kinds: &[Kind]) {
    let wanted: BTreeSet<Kind> = kinds.iter().copied().collect();
    let what = format!("{wanted:?} is named");
    let named = world.until(&what, || async {
        let found = reconciled(world).await?;
        let of_order = found
            .mismatches
            .iter()
            .filter(|mismatch| mismatch.order == order.to_string());
        let named: BTreeSet<Kind> = of_order.map(|mismatch| mismatch.kind).collect();
        ensure!(wanted.is_subset(&named), "only {named:?}");
        Ok(Some(()))
    });
    named.await.unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn every_service_is_a_role_of_its_own_in_its_database() {
    run(async {
        let world = World::shared().await;
        for service in Service::ALL {
            let pool = world.pool(service).await.unwrap_or_else(|error| panic!("{error:#}"));
            let who = "select distinct usename::text from pg_stat_activity
                       where datname = current_database() and application_name in ($1, 'relay')";
            let who: Vec<String> = sqlx::query_scalar(who)
                .bind(service.name())
                .fetch_all(&pool)
                .await
                .unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(who, [service.application()]);
        }
    });
}

#[test]
fn what_does_not_match_the_gateways_book_or_its_own_facts_is_named() {
    run(async {
        let world = World::open(&[]).await;
        let mut orders = Vec::new();
        for wish in [
            Wish::of("TEA-ASSAM"),
            Wish::of("TEA-ASSAM").pieces(2),
            Wish::of("TEA-SENCHA").to("XX"),
            Wish::of("KETTLE"),
            Wish::of("STRAINER"),
            Wish::of("TIN-100"),
            Wish::of("CUP-GLASS"),
            Wish::of("KETTLE").paid_by("pm_card_chargeDeclined"),
        ] {
            orders.push(world.place(&wish).await);
        }
        for order in &orders {
            world.ended(*order).await;
        }
        world.drained().await.unwrap_or_else(|error| panic!("{error:#}"));
        let found = reconciled(&world).await.unwrap_or_else(|error| panic!("{error:#}"));
        assert!(found.mismatches.is_empty(), "{found:?}");
        assert_eq!((found.payments, found.charges), (7, 7));
        let sound = rebuilt(&world).await;
        assert_eq!((sound.payments, sound.discrepancies.len()), (8, 0), "{sound:?}");

        tampered(&world, &orders).await;
        strangers(&world, orders[6])
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
    });
}

/// Rows that say what never happened, an order each.
async fn tampered(world: &World, orders: &[Uuid]) {
    let planted: [(&str, Kind, &str); 6] = [
        (
            "update payments set state = 'DECLINED', captured = 0 where order_id = ORDER",
            Kind::State,
            "state",
        ),
        (
            "update payments set captured = captured + 1 where order_id = ORDER",
            Kind::Amount,
            "captured",
        ),
        (
            "update payments set refunded = refunded - 1 where order_id = ORDER",
            Kind::Refund,
            "refunded",
        ),
        (
            "update payments set currency = 'USD' where order_id = ORDER",
            Kind::Currency,
            "currency",
        ),
        (
            "insert into ledger (transaction_id, account, debit, credit, order_id)
             values (gen_random_uuid(), 'gateway_receivable', 5, 0, ORDER)",
            Kind::Ledger,
            "taken in the ledger",
        ),
        (
            "update payments set payment_id = gen_random_uuid() where order_id = ORDER",
            Kind::OrphanedKey,
            "payment_id",
        ),
    ];
    for ((statements, kind, what), order) in planted.into_iter().zip(orders) {
        tamper(world, statements, *order)
            .await
            .unwrap_or_else(|error| panic!("{statements}: {error:#}"));
        assert_named(world, *order, &[kind]).await;
        let found = rebuilt(world).await.discrepancies;
        let named = found.iter().any(|found| found.order_id == *order && found.what == what);
        assert!(named, "{what}: {found:?}");
    }
}

/// Charges that nobody asked for, and a payment that nobody charged.
async fn strangers(world: &World, charged: Uuid) -> anyhow::Result<()> {
    charge(world, charged).await?;
    assert_named(world, charged, &[Kind::ChargedTwice, Kind::OrphanedKey]).await;
    let unknown = Uuid::now_v7();
    charge(world, unknown).await?;
    assert_named(world, unknown, &[Kind::ChargeWithoutPayment]).await;
    let ghost = Uuid::now_v7();
    let copy = "insert into payments
                select (jsonb_populate_record(p, jsonb_build_object('order_id', ORDER, 'payment_id', ORDER))).*
                from payments p where state = 'SUCCEEDED' limit 1";
    tamper(world, copy, ghost).await?;
    assert_named(world, ghost, &[Kind::PaymentWithoutCharge]).await;
    let found = rebuilt(world).await.discrepancies;
    ensure!(
        found
            .iter()
            .any(|found| found.order_id == ghost && found.what == "facts"),
        "{found:?}"
    );
    Ok(())
}
