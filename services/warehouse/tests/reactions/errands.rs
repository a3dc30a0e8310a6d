//! Errands wait, are taken once, and outlive whoever took them.

use super::*;

#[tokio::test]
async fn an_errand_waits_for_its_delay_and_no_longer() {
    let replica = Replica::start().await;
    let patient = replica.dispatch(AN_HOUR);
    assert_eq!(
        patient
            .next_due(&mut replica.pool.acquire().await.unwrap())
            .await
            .unwrap(),
        None
    );
    replica.confirm(Uuid::now_v7(), "DE").await;
    assert_eq!(replica.take_and_die(&patient).await, 0);
    let wait = patient
        .next_due(&mut replica.pool.acquire().await.unwrap())
        .await
        .unwrap()
        .unwrap()
        .as_secs();
    assert!((3540..=3600).contains(&wait), "{wait}");
    replica.let_an_hour_pass().await;
    assert_eq!(
        patient
            .next_due(&mut replica.pool.acquire().await.unwrap())
            .await
            .unwrap(),
        Some(Duration::ZERO)
    );
    assert_eq!(replica.take_and_die(&patient).await, 1);
    let lease = patient
        .next_due(&mut replica.pool.acquire().await.unwrap())
        .await
        .unwrap()
        .unwrap();
    // The delay is not waited for again.
    assert!(lease <= Duration::from_secs(10), "{lease:?}");
}

#[tokio::test]
async fn what_a_dead_worker_took_is_done_when_its_lease_ends() {
    let (replica, order_id) = (Replica::start().await, Uuid::now_v7());
    replica.confirm(order_id, "DE").await;
    let errand = replica.dispatch(AT_ONCE);
    let mut tx = messaging::Db::new(replica.pool.clone()).begin().await.unwrap();
    assert_eq!(errand.take(&mut tx, 10).await.unwrap().len(), 1);
    assert_eq!(replica.take_and_die(&errand).await, 0, "it is being taken");
    tx.commit().await.unwrap();
    assert_eq!(replica.take_and_die(&errand).await, 0, "it is leased");
    replica.let_an_hour_pass().await;
    assert_eq!(replica.take_and_die(&errand).await, 1);
    let lease = errand
        .next_due(&mut replica.pool.acquire().await.unwrap())
        .await
        .unwrap()
        .unwrap();
    assert!(lease > Duration::from_secs(15), "leases grow: {lease:?}");
    replica.let_an_hour_pass().await;
    let running = replica.run(AT_ONCE, AN_HOUR);
    replica.until_told("OrderShipped", 1).await;
    running.stop().await;
    assert_eq!(replica.told(order_id).await, ["ShipmentScheduled", "OrderShipped"]);
}

#[tokio::test]
async fn the_errands_go_on_with_the_trace_of_the_event_that_created_the_shipment() {
    let _telemetry = telemetry::start("warehouse", telemetry::LogFormat::Pretty).unwrap();
    let (replica, order_id) = (Replica::start().await, Uuid::now_v7());
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let heard = |(subject, trace): (Uuid, TraceContext)| Envelope {
        event_id: Uuid::now_v7(),
        event_type: "shop.order.OrderConfirmed.v1".into(),
        subject: subject.to_string(),
        sequence: 2,
        correlation_id: subject.to_string(),
        causation_id: None,
        occurred_at: Utc::now(),
        trace,
    };
    let trace = TraceContext::parse(parent, Some("vendor=1")).unwrap();
    let journal = Journal {
        heard: [(Uuid::now_v7(), TraceContext::NONE), (order_id, trace.clone())]
            .map(heard)
            .into(),
        ..Journal::default()
    };
    let mut tx = messaging::Db::new(replica.pool.clone()).begin().await.unwrap();
    let mut warehouse = Warehouse::load(&mut tx, &Touched::order(order_id)).await.unwrap();
    reactions::schedule(&mut warehouse, &confirmed(order_id, "DE"));
    warehouse.save(&mut tx, &journal).await.unwrap();
    tx.commit().await.unwrap();

    let running = replica.run(AT_ONCE, AT_ONCE);
    replica.until_told("OrderDelivered", 1).await;
    for name in ["OrderShipped", "OrderDelivered"] {
        let (_, parent, state) = &replica.events(name).await[0];
        let told = TraceContext::restore(parent.as_deref(), state.as_deref());
        assert_eq!(told.trace_id(), trace.trace_id());
        assert_eq!(told.tracestate(), Some("vendor=1"));
        assert_ne!(told.traceparent(), trace.traceparent(), "a span of its own");
    }
    running.stop().await;
}
