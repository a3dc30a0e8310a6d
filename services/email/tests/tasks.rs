//! Sending: a real database, real files, and a small mail server that speaks real SMTP.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use email::MIGRATIONS;
use email::clients::Mailer;
use email::domain::{Template, message_id, notification_id};
use email::store::Due;
use email::tasks::SendMail;
use messaging::{Db, Decisions, Errand};
use sqlx::PgPool;
use support::Heard::{Cancelled, Confirmed, Placed, Shipped};
use support::smtp::Receiver;
use support::{Story, hear, states, story, to_folder, to_server, told};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::format::FmtSpan;
use uuid::Uuid;

async fn sender(config: &email::MailConfig) -> (PgPool, SendMail) {
    let pool = testbed::database(&MIGRATIONS).await;
    let decisions = Decisions::start(Db::new(pool.clone()));
    let mailer = Mailer::new(config).unwrap();
    (pool, SendMail { decisions, mailer })
}

fn fresh_folder() -> std::path::PathBuf {
    std::env::temp_dir().join(format!("tidings-mail-{}", Uuid::now_v7()))
}

async fn take(pool: &PgPool, errand: &SendMail) -> Vec<Due> {
    let mut tx = messaging::Db::new(pool.clone()).begin().await.unwrap();
    let due = errand.take(&mut tx, 100).await.unwrap();
    tx.commit().await.unwrap();
    due
}

/// Takes whatever is due, whatever it waits for, and sends it.
async fn send_all(pool: &PgPool, errand: &SendMail) -> usize {
    sqlx::query("update notifications set due_at = now()")
        .execute(pool)
        .await
        .unwrap();
    let due = take(pool, errand).await;
    let count = due.len();
    for one in due {
        errand.perform(one).await.unwrap();
    }
    count
}

fn state_of(states: &[(String, String)]) -> &str {
    states.first().unwrap().1.as_str()
}

#[tokio::test]
async fn without_a_mail_server_messages_become_files_named_by_their_id() {
    let folder = fresh_folder();
    let (pool, errand) = sender(&to_folder(&folder)).await;
    let story = story("ada@example.org");
    hear(&errand.decisions, &story, &[Placed, Confirmed]).await;
    let again = take(&pool, &errand).await.remove(0);
    assert!(
        take(&pool, &errand).await.is_empty(),
        "a leased message is not taken twice"
    );
    let (order_id, id) = (
        story.order_id,
        notification_id(story.order_id, Template::OrderConfirmed.into()),
    );
    assert_eq!(send_all(&pool, &errand).await, 1, "once its lease is over, it is");
    errand.perform(again).await.unwrap();

    let names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, [format!("{id}.eml")], "a copy has the same name");
    let file = std::fs::read_to_string(folder.join(&names[0])).unwrap();
    assert!(file.contains(&format!("Message-ID: <{id}@tidings.example>")), "{file}");
    assert!(
        file.contains("To: ada@example.org") && file.contains("Subject: Your order is confirmed"),
        "{file}"
    );
    assert_eq!(state_of(&states(&pool, order_id).await), "SENT");
    let told = told(&pool, order_id).await;
    assert_eq!(told.len(), 1, "what was sent twice is told once");
    let (event, content) = &told[0];
    assert_eq!(event, "shop.email.NotificationSent.v1");
    assert_eq!(
        (&content["template"], &content["channel"]),
        (&"order_confirmed".into(), &"email".into())
    );
    assert_eq!(
        content["message_id"],
        message_id(order_id, Template::OrderConfirmed.into())
    );
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn the_errand_sends_over_smtp_and_uses_its_connection_again() {
    let receiver = Receiver::start().await;
    let (pool, errand) = sender(&to_server(&receiver.url())).await;
    let orders: Vec<Story> = (0..3).map(|_| story("ada@example.org")).collect();
    for story in &orders {
        hear(&errand.decisions, story, &[Placed, Confirmed, Shipped]).await;
        assert_eq!(send_all(&pool, &errand).await, 2);
    }
    let messages = receiver.messages.lock().unwrap().clone();
    assert_eq!((messages.len(), *receiver.connections.lock().unwrap()), (6, 1));
    for part in [
        "multipart/alternative",
        "text/plain",
        "text/html",
        "Auto-Submitted: auto-generated",
    ] {
        assert!(messages[0].contains(part), "{part} is missing: {}", messages[0]);
    }
    for story in &orders {
        for template in [Template::OrderConfirmed, Template::OrderShipped] {
            let id = message_id(story.order_id, template.into());
            assert_eq!(messages.iter().filter(|message| message.contains(&id)).count(), 1);
        }
    }
}

#[tokio::test]
async fn what_becomes_due_is_sent_unasked_until_shutdown() {
    let receiver = Receiver::start().await;
    let (pool, errand) = sender(&to_server(&receiver.url())).await;
    let (db, decisions, shutdown) = (
        Db::new(pool.clone()),
        errand.decisions.clone(),
        CancellationToken::new(),
    );
    let running = tokio::spawn(messaging::run_errand(db, errand, shutdown.clone()));
    let story = story("ada@example.org");
    hear(&decisions, &story, &[Placed, Cancelled]).await;
    let sent = async {
        while told(&pool, story.order_id).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), sent).await.unwrap();
    shutdown.cancel();
    running.await.unwrap();
    assert_eq!(receiver.messages.lock().unwrap().len(), 1);
    assert_eq!(state_of(&states(&pool, story.order_id).await), "SENT");
}

#[tokio::test]
async fn passing_trouble_postpones_and_final_refusal_is_told() {
    let receiver = Receiver::start().await;
    let (pool, errand) = sender(&to_server(&receiver.url())).await;
    let (lucky, refused) = (story("ada@example.org"), story("nobody@example.org"));
    receiver.will_answer(&[
        "451 try again later",
        "250 ok",
        "550 5.1.1 <nobody@example.org> unknown",
    ]);
    hear(&errand.decisions, &lucky, &[Placed, Confirmed]).await;
    send_all(&pool, &errand).await;
    let (state, attempts, waits): (String, i32, bool) =
        sqlx::query_as("select state, attempts, due_at > now() from notifications")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!((state.as_str(), attempts, waits), ("PENDING", 1, true));
    assert_eq!(told(&pool, lucky.order_id).await, []);
    send_all(&pool, &errand).await;
    assert_eq!(state_of(&states(&pool, lucky.order_id).await), "SENT");

    hear(&errand.decisions, &refused, &[Placed, Confirmed]).await;
    send_all(&pool, &errand).await;
    assert_eq!(state_of(&states(&pool, refused.order_id).await), "FAILED");
    assert_eq!(
        told(&pool, refused.order_id).await[0].0,
        "shop.email.NotificationFailed.v1"
    );
    assert_eq!(send_all(&pool, &errand).await, 0, "nothing is due any more");
}

#[tokio::test]
async fn an_address_that_is_none_fails_at_once() {
    let receiver = Receiver::start().await;
    let (pool, errand) = sender(&to_server(&receiver.url())).await;
    let story = story("no address\r\nBcc: everyone@example.org");
    hear(&errand.decisions, &story, &[Placed, Confirmed]).await;
    send_all(&pool, &errand).await;
    assert_eq!(state_of(&states(&pool, story.order_id).await), "FAILED");
    assert_eq!(*receiver.connections.lock().unwrap(), 0);
}

#[tokio::test]
async fn trouble_is_final_when_the_time_is_over_but_not_before_a_few_attempts() {
    let closed = format!("smtp://127.0.0.1:{}", testbed::free_port().unwrap());
    let (pool, errand) = sender(&to_server(&closed)).await;
    let story = story("ada@example.org");
    hear(&errand.decisions, &story, &[Placed, Confirmed]).await;
    sqlx::query("update notifications set give_up_at = now()")
        .execute(&pool)
        .await
        .unwrap();
    for _ in 0..4 {
        send_all(&pool, &errand).await;
        assert_eq!(state_of(&states(&pool, story.order_id).await), "PENDING");
    }
    send_all(&pool, &errand).await;
    assert_eq!(state_of(&states(&pool, story.order_id).await), "FAILED");
}

#[tokio::test]
async fn a_conversation_that_was_given_up_is_not_mistaken_for_another() {
    let receiver = Receiver::start().await;
    let (pool, errand) = sender(&to_server(&receiver.url())).await;
    let story = story("ada@example.org");
    receiver.will_answer(&[""]);
    hear(&errand.decisions, &story, &[Placed, Confirmed]).await;
    send_all(&pool, &errand).await;
    assert_eq!(state_of(&states(&pool, story.order_id).await), "PENDING");
    send_all(&pool, &errand).await;
    assert_eq!(state_of(&states(&pool, story.order_id).await), "SENT");
    assert_eq!(
        (
            receiver.messages.lock().unwrap().len(),
            *receiver.connections.lock().unwrap()
        ),
        (1, 2)
    );
}

#[tokio::test]
async fn no_log_line_names_a_recipient_or_quotes_the_mail_server() {
    let receiver = Receiver::start().await;
    let (pool, errand) = sender(&to_server(&receiver.url())).await;
    let logs = Logs::default();
    let writer = logs.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    receiver.will_answer(&["451 later, canary@example.org", "550 no canary@example.org here"]);
    hear(&errand.decisions, &story("canary@example.org"), &[Placed, Confirmed]).await;
    for _ in 0..2 {
        send_all(&pool, &errand).await;
    }
    let logs = String::from_utf8(logs.0.lock().unwrap().clone()).unwrap();
    assert!(
        logs.contains("the mail server answered 451") && logs.contains("the mail server answered 550"),
        "{logs}"
    );
    assert!(!logs.contains("canary"), "{logs}");
}

/// Log lines as they would be written.
#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Logs {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(line)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
